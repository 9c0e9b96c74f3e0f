"""Which path answers what. Refusals, health and models as vLLM 0.32 answers them; `/sim/*` is ours."""

from __future__ import annotations

import hashlib
import hmac
import math
import secrets
from collections.abc import Callable

import msgspec

from seawall.engines.sim import adapters, asks
from seawall.engines.sim.answers import FINGERPRINT, Answer
from seawall.engines.sim.asks import ApiRefusal, Json
from seawall.engines.sim.core import SimulatedEngine
from seawall.engines.sim.faults import read_fault
from seawall.engines.sim.flags import switched_on
from seawall.engines.sim.generation import Generation
from seawall.engines.sim.tools import ToolAnswer, read_tools
from seawall.engines.sim.typed_answers import Messages, Responses, chat_of_messages, chat_of_response
from seawall.engines.sim.wire import Connection, HttpRequest
from seawall.engines.vllm import environment, phrases

_encode = msgspec.json.encode
_BUSY = (
    "The engine is currently busy and cannot accept new requests. "
    "Please try again later or on a different instance."
)
_BACKLOG = "The engine has reached its prefill token backlog limit. Please try again later or on a different instance."
_EMBEDDING_SIZE = 64
RouteHandler = Callable[[Connection, HttpRequest], None]


class Routes:
    """Dispatches; holds no state but the engine."""

    def __init__(self, engine: SimulatedEngine) -> None:
        self.engine = engine
        pooling = engine.args.runner == "pooling"
        self.table: dict[str, dict[str, RouteHandler]] = {
            "/health": {"GET": self.health},
            "/ping": {"GET": self.health, "POST": self.health},
            "/version": {"GET": self._fixed({"version": "0.32.0"})},
            "/load": {"GET": self.load},
            "/metrics": {"GET": self.metrics},
            "/v1/models": {"GET": self.models},
            "/tokenize": {"POST": self.tokenize},
            "/detokenize": {"POST": self.detokenize},
            "/sim/fault": {"POST": self.fault, "GET": self.faults},
        }
        if switched_on(environment.LORA_UPDATES):
            self.table["/v1/load_lora_adapter"] = {"POST": self.load_adapter}
            self.table["/v1/unload_lora_adapter"] = {"POST": self.unload_adapter}
        if switched_on(environment.DEV_MODE):
            self.table["/sleep"] = {"POST": self.fall_asleep}
            self.table["/wake_up"] = {"POST": self.wake_up}
            self.table["/is_sleeping"] = {"GET": self.is_sleeping}
        if pooling:
            self.table["/v1/embeddings"] = {"POST": self.embeddings}
        else:
            for path in ("/v1/completions", "/v1/chat/completions", "/v1/messages", "/v1/responses"):
                self.table[path] = {"POST": self.generate}

    def handle(self, connection: Connection, request: HttpRequest) -> None:
        """Answers one request; every error becomes an answer."""
        methods = self.table.get(request.path)
        status = 200
        if methods is None:
            status = 404
            connection.respond(404, b'{"detail":"Not Found"}')
        elif request.method not in methods:
            status = 405
            allow = f"allow: {', '.join(methods)}\r\n"
            connection.respond(405, b'{"detail":"Method Not Allowed"}', extra=allow)
        else:
            try:
                self._authorise(request)
                methods[request.method](connection, request)
            except ApiRefusal as e:
                status = e.status
                connection.respond(e.status, _encode(_refusal(request.path, e)))
        handler = request.path if methods and request.method in methods else "none"
        if handler not in ("/metrics", "/health", "/ping", "/load", "/version", "/sim/fault"):
            self.engine.metrics.answered(handler, request.method, status)

    def _authorise(self, request: HttpRequest) -> None:
        key = self.engine.args.api_key
        if key is None or not request.path.startswith("/v1"):
            return
        given = request.headers.get("authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {key}".encode()):
            raise ApiRefusal("Unauthorized", 401, "Unauthorized")

    def _fixed(self, answer: Json) -> RouteHandler:
        body = _encode(answer)
        return lambda connection, request: connection.respond(200, body)

    def health(self, connection: Connection, request: HttpRequest) -> None:
        connection.respond(503 if self.engine.dead else 200, b"", kind="")

    def load(self, connection: Connection, request: HttpRequest) -> None:
        connection.respond(200, _encode({"server_load": len(self.engine.live)}))

    def models(self, connection: Connection, request: HttpRequest) -> None:
        e = self.engine
        entries = []
        for name in e.models:
            base = name not in e.adapters
            permission = {
                "id": f"modelperm-{hashlib.sha256(name.encode()).hexdigest()[:16]}",
                "object": "model_permission",
                "created": e.created,
                "allow_create_engine": False,
                "allow_sampling": True,
                "allow_logprobs": True,
                "allow_search_indices": False,
                "allow_view": True,
                "allow_fine_tuning": False,
                "organization": "*",
                "group": None,
                "is_blocking": False,
            }
            entries.append(
                {
                    "id": name,
                    "object": "model",
                    "created": e.created,
                    "owned_by": "vllm",
                    "root": e.root if base else e.adapters[name],
                    "parent": None if base else e.names[0],
                    "max_model_len": e.max_model_len if base else None,
                    "permission": [permission],
                }
            )
        connection.respond(200, _encode({"object": "list", "data": entries}))

    def metrics(self, connection: Connection, request: HttpRequest) -> None:
        e = self.engine
        if e.armed.has("blind"):
            raise ApiRefusal("simulated: no metrics", 500, "InternalServerError")
        c = e.scheduler.counters
        counters = {
            "prefix_cache_queries_total": c.prefix_queries,
            "prefix_cache_hits_total": c.prefix_hits,
            "external_prefix_cache_queries_total": 0,
            "external_prefix_cache_hits_total": 0,
            "mm_cache_queries_total": 0,
            "mm_cache_hits_total": 0,
            "num_preemptions_total": c.preemptions,
            "prompt_tokens_total": c.prompt_tokens,
            "prompt_tokens_cached_total": c.prefix_hits,
            "generation_tokens_total": c.generation_tokens,
        }
        limits = e.scheduler.limits
        cache = (
            f'block_size="{limits.block_size}",enable_prefix_caching="{limits.prefix_caching}",engine="0",'
            f'kv_cache_size_tokens="{limits.blocks * limits.block_size}",num_gpu_blocks="{limits.blocks}"'
        )
        text = e.metrics.text(
            e.gauges(), {k: float(v) for k, v in counters.items()}, c.finished, cache, e.sleep.state
        )
        connection.respond(200, text.encode(), kind="text/plain; version=1.0.0; charset=utf-8")

    def tokenize(self, connection: Connection, request: HttpRequest) -> None:
        data = self._body(request)
        words = self.engine.words
        text = asks.chat_prompt(data, words) if "messages" in data else data.get("prompt")
        if not isinstance(text, str):
            raise asks.invalid("missing", "prompt", "Field required", data)
        ids = words.encode(text)
        strings = [words.pieces[i] for i in ids] if data.get("return_token_strs") else None
        answer = {
            "count": len(ids),
            "max_model_len": self.engine.max_model_len,
            "tokens": ids,
            "token_strs": strings,
        }
        connection.respond(200, _encode(answer))

    def detokenize(self, connection: Connection, request: HttpRequest) -> None:
        data = self._body(request)
        ids = data.get("tokens")
        if not isinstance(ids, list) or not all(isinstance(i, int) and i >= 0 for i in ids):
            raise asks.invalid("list_type", "tokens", "Input should be a valid list", ids)
        known = [i for i in ids if i < self.engine.words.size]
        connection.respond(200, _encode({"prompt": self.engine.words.decode(known, False)}))

    def _body(self, request: HttpRequest, model: bool = True) -> Json:
        kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
        if kind != "application/json":
            message = "1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed"
            raise ApiRefusal(message, kind="Bad Request")
        data = asks.decode(request.body)
        if model:
            asks.check_model(data.get("model"), self.engine.models)
        return data

    def generate(self, connection: Connection, request: HttpRequest) -> None:
        """/v1/completions and /v1/chat/completions, and the two that are chats in other clothes."""
        e = self.engine
        data = self._body(request, model=False)
        chat = request.path != "/v1/completions"
        asked = data
        if request.path == "/v1/messages":
            asked = chat_of_messages(data)
        elif request.path == "/v1/responses":
            asked = chat_of_response(data)
        call = None
        if request.path == "/v1/chat/completions":
            asked, call = read_tools(asked, bool(e.args.tool_call_parser), e.args.enable_auto_tool_choice)
        ask = asks.read(asked, chat, e.words, e.models, e.rng)
        if chat and e.armed.has("wrong-template"):
            ask.texts = [other_template(text) for text in ask.texts]
            ask.prompts = [e.words.encode(text) for text in ask.texts]
        if ask.logprobs is not None and e.armed.has("nan"):
            raise ApiRefusal("Out of range float values are not JSON compliant")
        self._admit(ask, connection, chat or isinstance(data.get("prompt"), str))
        if self._badly_drained(ask, connection):
            return
        budgets = [asks.fit(ask, prompt, e.max_model_len) for prompt in ask.prompts]
        base = str(request.headers.get("x-request-id") or data.get("request_id") or secrets.token_hex(8))
        extra = "" if ask.stream else self._load_header(request)
        if e.args.enable_request_id_headers:
            extra += f"X-Request-Id: {base}\r\n"
        answer: Answer
        if request.path == "/v1/messages":
            answer = Messages(ask, base, e.words)
        elif request.path == "/v1/responses":
            answer = Responses(ask, base, e.words, data)
        else:
            answer = Answer(ask, base, e.words) if call is None else ToolAnswer(ask, base, e.words, call)
        Generation(e, connection, ask, answer, budgets, extra).start()

    def _admit(self, ask: asks.GenerationRequest, connection: Connection, text: bool) -> None:
        e = self.engine
        if e.dead:
            raise ApiRefusal(f"{phrases.DEAD_ANSWER}.", 500, "InternalServerError")
        if (fault := e.armed.active.get("fail")) is not None:
            raise ApiRefusal("simulated failure", fault.status, "InternalServerError")
        if e.draining and text:
            raise ApiRefusal(phrases.STOPPING_ANSWER, 500, "InternalServerError")
        queued = len(e.scheduler.waiting) + len(e.scheduler.running)
        bound = e.args.max_num_queued_reqs
        if bound is not None and queued + len(ask.prompts) * ask.n > bound:
            e.metrics.rejected["max_num_queued_reqs"] += 1
            raise ApiRefusal(_BUSY, 503, "Service Unavailable")
        tokens = e.args.max_num_queued_tokens
        if tokens is not None:
            pending = sum(
                len(s.prompt) for s in [*e.scheduler.waiting, *e.scheduler.running] if not s.first_token_s
            )
            if pending >= tokens:
                e.metrics.rejected["max_num_queued_tokens"] += 1
                raise ApiRefusal(_BACKLOG, 503, "Service Unavailable")

    def _badly_drained(self, ask: asks.GenerationRequest, connection: Connection) -> bool:
        """A token-id prompt during a drain: 200 with nothing in it."""
        e = self.engine
        if not e.draining:
            return False
        if ask.stream:
            connection.open_stream()
            connection.send("data: [DONE]\n\n")
            connection.end_stream()
            return True
        answer = Answer(ask, secrets.token_hex(8), e.words)
        generation = Generation(e, connection, ask, answer, [1] * len(ask.prompts), "")
        for choice in generation.choices:
            choice.finish_reason = "abort"
        connection.respond(200, _encode(generation.answer.whole(generation.choices)))
        return True

    def _load_header(self, request: HttpRequest) -> str:
        wanted = request.headers.get("endpoint-load-metrics-format", "").lower()
        gauges = self.engine.gauges()
        values = {k: gauges[k] for k in ("num_requests_waiting", "kv_cache_usage_perc")}
        if wanted == "text":
            shown = ", ".join(f"named_metrics.{k}={v}" for k, v in values.items())
            return f"endpoint-load-metrics: TEXT {shown}\r\n"
        if wanted == "json":
            shown = ", ".join(f'"{k}": {v}' for k, v in values.items())
            return f'endpoint-load-metrics: JSON {{"named_metrics": {{{shown}}}}}\r\n'
        return ""

    def embeddings(self, connection: Connection, request: HttpRequest) -> None:
        """Unit vectors of 64 numbers, a pure function of the tokens."""
        data = self._body(request)
        given = data.get("input")
        single = isinstance(given, str) or (isinstance(given, list) and given and isinstance(given[0], int))
        inputs = [given] if single else given
        if not isinstance(inputs, list) or not inputs:
            raise ApiRefusal("input must be a text, a list of token ids, or a list of these", param="input")
        rows, tokens = [], 0
        for i, one in enumerate(inputs):
            ids = self.engine.words.encode(one) if isinstance(one, str) else list(one)
            tokens += len(ids)
            rows.append({"index": i, "object": "embedding", "embedding": _vector(ids)})
        answer = {
            "id": f"embd-{secrets.token_hex(8)}",
            "object": "list",
            "created": self.engine.created,
            "model": data.get("model") or self.engine.names[0],
            "data": rows,
            "usage": {
                "prompt_tokens": tokens,
                "total_tokens": tokens,
                "completion_tokens": 0,
                "prompt_tokens_details": None,
            },
            "system_fingerprint": FINGERPRINT,
        }
        connection.respond(200, _encode(answer))

    def load_adapter(self, connection: Connection, request: HttpRequest) -> None:
        connection.respond(200, adapters.load(self.engine, self._body(request, model=False)), kind="")

    def unload_adapter(self, connection: Connection, request: HttpRequest) -> None:
        connection.respond(200, adapters.unload(self.engine, self._body(request, model=False)), kind="")

    def fall_asleep(self, connection: Connection, request: HttpRequest) -> None:
        level, mode = request.query.get("level", "1"), request.query.get("mode", "abort")
        if level not in ("0", "1", "2") or mode not in ("abort", "wait", "keep"):
            raise ApiRefusal("level is 0, 1 or 2, mode is abort, wait or keep", 422, "Unprocessable Entity")

        async def asleep() -> None:
            await self.engine.sleep.fall(int(level), mode)
            connection.respond(200, _encode({"status": "sleeping", "level": int(level)}))

        self.engine.spawn(asleep())

    def wake_up(self, connection: Connection, request: HttpRequest) -> None:
        self.engine.sleep.wake_up()
        connection.respond(200, _encode({"status": "awake", "tags": None}))

    def is_sleeping(self, connection: Connection, request: HttpRequest) -> None:
        connection.respond(200, _encode({"is_sleeping": self.engine.scheduler.paused}))

    def fault(self, connection: Connection, request: HttpRequest) -> None:
        fault = read_fault(asks.decode(request.body))
        connection.respond(200, _encode({"fault": fault.kind}))
        self.engine.inject(fault)

    def faults(self, connection: Connection, request: HttpRequest) -> None:
        armed = self.engine.armed
        connection.respond(
            200, _encode({"active": sorted(armed.active), "armed": [f.kind for f in armed.next]})
        )


def other_template(text: str) -> str:
    """A chat's prompt as another template writes it."""
    return text.replace("<|im_start|>", "### ").replace("<|im_end|>", "")


def _refusal(path: str, e: ApiRefusal) -> Json:
    """Anthropic's shape on its route, except for what is refused before the route's own code runs."""
    if path == "/v1/messages" and e.kind != "Bad Request":
        return {"type": "error", "error": {"type": e.kind, "message": e.message}}
    return e.body()


def _vector(ids: list[int]) -> list[float]:
    raw = hashlib.shake_128(b"".join(i.to_bytes(4, "little") for i in ids)).digest(_EMBEDDING_SIZE)
    values = [b - 127.5 for b in raw]
    norm = math.sqrt(sum(v * v for v in values))
    return [round(v / norm, 8) for v in values]
