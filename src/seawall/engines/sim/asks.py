"""From a JSON body to what must be generated, with vLLM's own refusals (message, type, param, status).

The texts are those that vLLM 0.32 answered with on the same input. Unknown fields are ignored, as vLLM ignores them.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import msgspec

from seawall.engines.sim.language import Sampling, structured
from seawall.engines.sim.tokens import TURN_END, Vocabulary

Json = dict[str, Any]
MAX_N = 16_384
"""Answers to one prompt: vLLM's VLLM_MAX_N_SEQUENCES where nobody sets it."""
MAX_PROMPTS = 1024
"""Prompts of one request: its VLLM_MAX_COMPLETION_PROMPTS."""


class ApiRefusal(Exception):
    """An answer other than 2xx: `{"error": {message, type, param, code}}`."""

    def __init__(
        self, message: str, status: int = 400, kind: str = "BadRequestError", param: str | None = None
    ) -> None:
        super().__init__(message)
        self.message, self.status, self.kind, self.param = message, status, kind, param

    def body(self) -> Json:
        return {
            "error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.status}
        }


def parameter(message: str, name: str, value: Any = None) -> ApiRefusal:
    shown = f", value={value}" if value is not None else ""
    return ApiRefusal(f"{message} (parameter={name}{shown})", param=name)


def invalid(kind: str, name: str, text: str, value: Any) -> ApiRefusal:
    return _invalid([(kind, name, text, value)])


def _invalid(found: list[tuple[str, str, str, Any]]) -> ApiRefusal:
    rows = []
    for kind, name, text, value in found:
        shown = f"<{type(value).__name__} of {len(value)} items>" if isinstance(value, list | dict) else value
        rows.append({"type": kind, "loc": f"body.{name}" if name else "body", "msg": text, "input": shown})
    lines = "".join(f"\n  {row}" for row in rows)
    many = "s" if len(rows) > 1 else ""
    message = f"{len(rows)} validation error{many}:{lines}"
    return ApiRefusal(message, kind="Bad Request", param=str(rows[0]["loc"]))


def demand(data: Json, *names: str) -> None:
    """Refuses a body that lacks one of these fields."""
    if lacking := [("missing", n, "Field required", data) for n in names if n not in data]:
        raise _invalid(list(lacking))


@dataclass(kw_only=True)
class GenerationRequest:
    """One HTTP request to generate, checked."""

    chat: bool
    model: str
    prompts: list[list[int]]
    texts: list[str]
    echo: list[str] | None
    n: int
    max_tokens: int | None
    sampling: Sampling
    seed: int | None
    stream: bool
    include_usage: bool
    continuous_usage: bool
    return_token_ids: bool
    as_token_ids: bool
    logprobs: int | None
    stop: list[str] = field(default_factory=list)
    include_stop: bool = False
    skip_special: bool = True
    priority: int = 0
    cache_salt: str = ""
    stream_interval: int = 1


def decode(body: bytes) -> Json:
    """The body as an object, or vLLM's refusal of what is not JSON."""
    try:
        data = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        raise ApiRefusal(
            "1 validation error:\n  {'type': 'json_invalid', 'loc': 'body', 'msg': 'JSON decode error', "
            f"'ctx': {{'error': '{e}'}}}}",
            kind="Bad Request",
            param="body",
        ) from None
    if not isinstance(data, dict):
        raise invalid(
            "model_attributes_type",
            "",
            "Input should be a valid dictionary or object to extract fields from",
            data,
        )
    return data


def _number(data: Json, name: str, low: float | None = None, high: float | None = None) -> float | None:
    value = data.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise invalid(
            "float_parsing", name, "Input should be a valid number, unable to parse string as a number", value
        )
    if low is not None and value < low:
        raise parameter(f"{name} must be non-negative, got {float(value)}.", name, float(value))
    if high is not None and not 0 < value <= high:
        raise parameter(f"{name} must be in (0, 1], got {float(value)}.", name, float(value))
    return float(value)


def _integer(data: Json, name: str) -> int | None:
    value = data.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        text = "Input should be a valid integer, unable to parse string as an integer"
        raise invalid("int_parsing", name, text, value)
    return value


def _strings(value: Any, name: str) -> list[str]:
    if value is None:
        return []
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise invalid("string_type", name, "Input should be a valid string", value)
    if len(value) > 4:
        text = f"List should have at most 4 items after validation, not {len(value)}"
        raise invalid("too_long", name, text, value)
    return list(value)


def _content(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        parts = [p.get("text", "") if isinstance(p, dict) else str(p) for p in value]
        return "\n".join(str(p) for p in parts)
    raise invalid("string_type", "messages", "Input should be a valid string", value)


def read_messages(data: Json) -> list[tuple[str, str]]:
    """`messages` as (role, text)."""
    messages = data.get("messages")
    if messages is None:
        raise invalid("missing", "messages", "Field required", data)
    if not isinstance(messages, list):
        raise invalid("list_type", "messages", "Input should be a valid list", messages)
    if not messages:
        raise ApiRefusal("Cannot apply chat template to an empty conversation. Provide at least one message.")
    pairs: list[tuple[str, str]] = []
    for i, message in enumerate(messages):
        if not isinstance(message, dict) or "role" not in message:
            raise invalid("missing", f"messages.{i}.role", "Field required", message)
        pairs.append((str(message["role"]), _content(message.get("content"))))
    return pairs


def chat_prompt(data: Json, words: Vocabulary) -> str:
    messages = read_messages(data)
    prompt = bool(data.get("add_generation_prompt", True))
    if data.get("continue_final_message"):
        if prompt and "add_generation_prompt" in data:
            raise ApiRefusal("Cannot set both `continue_final_message` and `add_generation_prompt` to True.")
        text = words.chat(messages, generation_prompt=False)
        return text.removesuffix("<|im_end|>\n")
    return words.chat(messages, generation_prompt=prompt)


def _prompts(data: Json, words: Vocabulary) -> tuple[list[list[int]], list[str]]:
    prompt = data.get("prompt")
    if prompt is None or prompt == "":
        raise parameter("Either prompt or prompt_embeds must be provided and non-empty.", "prompt")
    if isinstance(prompt, str):
        return [words.encode(prompt)], [prompt]
    if not isinstance(prompt, list):
        raise invalid("list_type", "prompt", "Input should be a valid list", prompt)
    if not prompt:
        raise ApiRefusal("You must pass at least one prompt")
    if all(isinstance(p, int) and not isinstance(p, bool) for p in prompt):
        prompt = [prompt]
    elif len(prompt) > MAX_PROMPTS:
        text = (
            f"prompt list length {len(prompt)} exceeds the maximum allowed count of {MAX_PROMPTS}. To increase this "
            "limit, set the VLLM_MAX_COMPLETION_PROMPTS environment variable."
        )
        raise parameter(text, "prompt")
    lists: list[list[int]] = []
    texts: list[str] = []
    for one in prompt:
        if isinstance(one, str):
            lists.append(words.encode(one))
            texts.append(one)
            continue
        if not isinstance(one, list) or not one:
            raise invalid("list_type", "prompt", "Input should be a valid list", one)
        for token in one:
            if not isinstance(token, int) or not 0 <= token < words.size:
                raise ApiRefusal(f"Token id {token} is out of vocabulary")
        lists.append(list(one))
        texts.append(words.decode(one))
    return lists, texts


def _sampling(data: Json, words: Vocabulary, n: int, rng: random.Random) -> tuple[Sampling, int | None]:
    temperature = _number(data, "temperature", low=0.0)
    _number(data, "top_p", high=1.0)
    seed = _integer(data, "seed")
    greedy = temperature is not None and temperature < 1e-5
    if n < 1:
        raise ApiRefusal(f"n must be at least 1, got {n}.")
    if n > MAX_N:
        raise ApiRefusal(
            f"n must be at most {MAX_N}, got {n}. To increase this limit, set the VLLM_MAX_N_SEQUENCES "
            "environment variable."
        )
    if greedy and n > 1:
        raise ApiRefusal(f"n must be 1 when using greedy sampling, got {n}.")
    bias = {int(k): float(v) for k, v in (data.get("logit_bias") or {}).items()}
    penalised = bool(_number(data, "presence_penalty") or _number(data, "frequency_penalty"))
    salt = None if greedy else (seed if seed is not None else rng.getrandbits(63))
    allowed = data.get("allowed_token_ids") or []
    pick = 0 if salt is None else salt
    text = structured(data.get("response_format"), data.get("structured_outputs"), pick)
    banned = {k for k, v in bias.items() if v <= -50}
    for word in data.get("bad_words") or []:
        banned |= {ids[0] for ids in (words.encode(word), words.encode(" " + word)) if len(ids) == 1}
    sampling = Sampling(
        salt=salt,
        penalised=penalised,
        ignore_eos=bool(data.get("ignore_eos")),
        min_tokens=_integer(data, "min_tokens") or 0,
        forced=frozenset(allowed) or frozenset(k for k, v in bias.items() if v >= 50),
        banned=frozenset(banned),
        stop_token_ids=frozenset(data.get("stop_token_ids") or []),
        script=(*words.encode(text), TURN_END) if text is not None else (),
    )
    return sampling, seed


def _logprobs(data: Json, chat: bool) -> int | None:
    if chat:
        top = _integer(data, "top_logprobs")
        if top and not data.get("logprobs"):
            raise parameter("when using `top_logprobs`, `logprobs` must be set to true.", "top_logprobs")
        count = (top or 0) if data.get("logprobs") else None
    else:
        count = _integer(data, "logprobs")
    if count is not None and count > 20:
        message = f"Requested sample logprobs of {count}, which is greater than max allowed: 20"
        raise parameter(message, "logprobs", count)
    return count


def read(
    data: Json, chat: bool, words: Vocabulary, models: list[str], rng: random.Random
) -> GenerationRequest:
    """The body of /v1/completions or /v1/chat/completions -> Ask. Raises Refused."""
    stream = bool(data.get("stream"))
    options = data.get("stream_options") or {}
    if options and not stream:
        raise parameter("Stream options can only be defined when `stream=True`.", "stream_options")
    check_model(data.get("model"), models)
    logprobs = _logprobs(data, chat)
    if chat:
        text = chat_prompt(data, words)
        prompts, texts = [words.encode(text)], [text]
        echo = None
    else:
        prompts, texts = _prompts(data, words)
        echo = texts if data.get("echo") else None
    n = _integer(data, "n")
    sampling, seed = _sampling(data, words, 1 if n is None else n, rng)
    if chat:
        limit = _integer(data, "max_completion_tokens")
        max_tokens = limit if limit is not None else _integer(data, "max_tokens")
    else:
        given = _integer(data, "max_tokens")
        max_tokens = 16 if given is None else given
    return GenerationRequest(
        chat=chat,
        model=str(data.get("model") or models[0]),
        prompts=prompts,
        texts=texts,
        echo=echo,
        n=1 if n is None else n,
        max_tokens=max_tokens,
        sampling=sampling,
        seed=seed,
        stream=stream,
        include_usage=bool(options.get("include_usage")),
        continuous_usage=bool(options.get("include_usage") and options.get("continuous_usage_stats")),
        return_token_ids=bool(data.get("return_token_ids")),
        as_token_ids=bool(data.get("return_tokens_as_token_ids")),
        logprobs=logprobs,
        stop=_strings(data.get("stop"), "stop"),
        include_stop=bool(data.get("include_stop_str_in_output")),
        skip_special=data.get("skip_special_tokens") is not False,  # 0.33: null means the model's default
        priority=_integer(data, "priority") or 0,
        cache_salt=str(data.get("cache_salt") or ""),
        stream_interval=max(1, _integer(data, "stream_interval") or 1),
    )


def check_model(model: Any, models: list[str]) -> None:
    if model is not None and model not in models:
        aliases = ", ".join(models)
        raise ApiRefusal(
            f"The model `{model}` does not exist. Valid aliases: {aliases}.", 404, "NotFoundError", "model"
        )


def fit(ask: GenerationRequest, prompt: list[int], max_model_len: int) -> int:
    """max_tokens of one prompt, or vLLM's refusal when it cannot fit."""
    if len(prompt) > max_model_len - 1 or not prompt:
        seen = min(len(prompt), max_model_len + 1)
        raise parameter(
            f"This model's maximum context length is {max_model_len} tokens. However, your prompt contains at least "
            f"{seen} input tokens, which exceeds this limit even without any output tokens. Please reduce the length "
            "of the input prompt.",
            "input_tokens",
            seen,
        )
    room = max_model_len - len(prompt)
    wanted = ask.max_tokens
    if wanted is None:
        return room
    if wanted < 1:
        raise parameter(f"max_tokens must be at least 1, got {wanted}.", "max_tokens", wanted)
    if wanted > max_model_len:
        raise parameter(
            f"max_tokens={wanted} cannot be greater than max_model_len={max_model_len}. "
            "Please request fewer output tokens.",
            "max_tokens",
            wanted,
        )
    if ask.sampling.min_tokens > wanted:
        raise ApiRefusal(
            f"min_tokens must be less than or equal to max_tokens={wanted}, got {ask.sampling.min_tokens}."
        )
    if wanted > room:
        raise parameter(
            f"This model's maximum context length is {max_model_len} tokens. However, you requested {wanted} output "
            f"tokens and your prompt contains {len(prompt)} input tokens, for a total of {wanted + len(prompt)} "
            "tokens. Please reduce the length of the input prompt or the number of requested output tokens.",
            "input_tokens",
            len(prompt),
        )
    return wanted
