"""The making of a fingerprint: right answers from an engine whose weights were verified, or from replicas that agree,
and how far healthy answers are from each other while other work is batched with them. Forbidden here: guessing that.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import httpx2

from seawall.decide.truth.fingerprint import Identity, PinnedPrompt, TruthAnswer
from seawall.decide.truth.learn import Learned, learn
from seawall.drivers import cache
from seawall.drivers.process import Child, free_port
from seawall.engines.vllm.client import EngineClient
from seawall.engines.vllm.truth import answer_of, ask_of
from seawall.errors import CheckFailed, EngineError, InputError, in_words
from seawall.local.launch import ReplicaRecipe
from seawall.weights.lockfile import read_lock
from seawall.weights.pull import check

ASK_S = 300.0
"""Longest wait for one answer: a real engine on a busy CPU."""
SWEPT_ROUNDS = 1
"""Rounds in which sweeps and rows are asked, too: there are a hundred times more of them than of texts."""
FILLERS = (
    "Tell me about number {} and the sea.",
    "Count on from {}:",
    "{} is",
    "Write a poem about {}, please.",
)


@dataclass(frozen=True)
class NoiseMeasure:
    """How healthy answers are measured."""

    rounds: int = 6
    """Times that each prompt is asked beside other work."""
    beside: int = 6
    """Requests of other work at a time."""
    key: str | None = None


def verify(folder: Path, lock: Path | None) -> str:
    """Reads every byte of the weights and compares it with what pins them -> the digest of that. CheckFailed when a
    file is not as pinned, InputError when nothing pins them."""
    own = folder.with_suffix(".lock.json")
    for path in (lock, own):
        if path is not None and path.is_file():
            pinned = read_lock(path)
            check(folder, pinned, cure=f"seawall pull --check --to {folder} --lock {path}")
            return pinned.digest
    facts = cache.complete(folder)
    files = {n: str(f["sha256"]) for n, f in ((facts or {}).get("files") or {}).items() if "sha256" in f}
    if not files:
        raise InputError(
            f"nothing says what the weights in {folder} must be: no lockfile.",
            "Pin them (seawall pull FLEET.yaml --lock-only), or compare replicas that serve: --url URL --url URL.",
        )
    for name, wanted in sorted(files.items()):
        if cache.sha256(folder / name) != wanted:
            raise CheckFailed(
                f"{folder / name} is not what was pinned: other bytes of the same name.",
                f"Remove the folder, and fetch it anew: rm -r {folder}",
            )
    return hashlib.sha256("\n".join(f"{h} {n}" for n, h in sorted(files.items())).encode()).hexdigest()


def no_text(folder: Path) -> set[int]:
    """Ids that stand for something else than text, such as an image: a prompt must not hold them."""
    out: set[int] = set()
    with contextlib.suppress(OSError, ValueError, TypeError, AttributeError, KeyError):
        out |= {
            int(t["id"]) for t in json.loads((folder / "tokenizer.json").read_text("utf-8"))["added_tokens"]
        }
    with contextlib.suppress(OSError, ValueError, AttributeError):
        config = json.loads((folder / "config.json").read_text("utf-8"))
        out |= {
            v for k, v in config.items() if k.endswith(("token_id", "token_index")) and isinstance(v, int)
        }
    return out


def vocabulary_of(folder: Path) -> int:
    """The model's number of token ids, as its config.json says; 0: it does not."""
    with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
        config = json.loads((folder / "config.json").read_text("utf-8"))
        return int(config.get("vocab_size") or (config.get("text_config") or {}).get("vocab_size") or 0)
    return 0


@contextlib.asynccontextmanager
async def engine(recipe: ReplicaRecipe, log: Path, startup_s: float) -> AsyncIterator[str]:
    """An engine of this recipe, ended with the block; yields its URL. EngineError when it does not come up."""
    port = free_port("127.0.0.1")
    argv, env = recipe.command(port)
    child = await Child.start(argv, env | {"SEAWALL_REPLICA_PORT": str(port)}, log)
    client = EngineClient()
    url = f"http://127.0.0.1:{port}"
    ended = asyncio.ensure_future(child.wait())
    try:
        async with asyncio.timeout(startup_s):
            while not await client.listens(url):
                if ended.done():
                    raise EngineError(f"the engine ended with {ended.result()}.", f"Its log: {log}")
                await asyncio.sleep(0.2)
            await client.token(url, recipe.fleet.served_names[0], startup_s)
        yield url
    except TimeoutError:
        raise EngineError(f"the engine did not serve within {startup_s:.0f} s.", f"Its log: {log}") from None
    finally:
        await client.close()
        child.kill()
        await ended


async def fingerprint_of(
    urls: Sequence[str],
    model: str,
    wanted: Sequence[PinnedPrompt],
    identity: Identity,
    source: str,
    measure: NoiseMeasure,
    say: Callable[[str], None],
) -> Learned:
    """Asks every prompt of each replica, first alone, then `measure.rounds` times beside other work."""
    heard: dict[str, dict[str, list[TruthAnswer]]] = {}
    for url in urls:
        say(f"asking {url}: {len(wanted)} prompts, alone and {measure.rounds} times beside other work")
        async with _Asker(url, model, measure) as asker:
            heard[url] = await asker.hear(wanted)
    answered = [p for p in wanted if all(p.name in replies for replies in heard.values())]
    return learn(answered, heard, identity, source)


class _Asker:
    """One replica that is asked."""

    def __init__(self, url: str, model: str, measure: NoiseMeasure) -> None:
        headers = {"authorization": f"Bearer {measure.key}"} if measure.key else {}
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=64)
        self._http = httpx2.AsyncClient(
            base_url=url, trust_env=False, timeout=ASK_S, headers=headers, limits=limits
        )
        self._url, self._model, self._measure = url, model, measure
        self._rng = Random(0)

    async def __aenter__(self) -> _Asker:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def hear(self, wanted: Sequence[PinnedPrompt]) -> dict[str, list[TruthAnswer]]:
        out = {p.name: [await self._ask(p)] for p in wanted if p.kind != "rows"}
        for p in wanted:
            if p.kind == "rows":
                answer = await self._ask(p)
                if not set(p.rows) <= answer.top[0].keys():
                    break  # an engine that does not know the question: the head is seen by the best tokens only
                out[p.name] = [answer]
        wanted = [p for p in wanted if p.name in out]
        others = [asyncio.ensure_future(self._work()) for _ in range(self._measure.beside)]
        try:
            for n in range(self._measure.rounds):
                texts = [p for p in wanted if not p.covers]
                sweeps = [p for p in wanted if p.kind == "ids"] if n < SWEPT_ROUNDS else []
                rows = [p for p in wanted if p.kind == "rows"] if n < SWEPT_ROUNDS else []
                # Rows never in one step with others' logprobs: vLLM 0.32 would mix up whose are whose.
                for order in ([*texts, *sweeps], rows):
                    self._rng.shuffle(order)
                    while order:
                        some = [order.pop() for _ in range(min(len(order), self._rng.randint(1, 4)))]
                        answers = await asyncio.gather(*(self._ask(p) for p in some))
                        for prompt, answer in zip(some, answers, strict=True):
                            out[prompt.name].append(answer)
        finally:
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
        return out

    async def _ask(self, prompt: PinnedPrompt) -> TruthAnswer:
        path, body = ask_of(prompt, self._model, os.urandom(9).hex())
        try:
            answer = await self._http.post(path, json=body)
            if answer.status_code != 200:
                raise EngineError(
                    f"{self._url} answered {answer.status_code} to {prompt.name}: {answer.text[:200]}"
                )
            given: TruthAnswer = answer_of(answer.json())
            return given
        except (httpx2.HTTPError, ValueError) as e:
            raise EngineError(f"{self._url} gave no answer to {prompt.name}: {in_words(e)}") from None

    async def _work(self) -> None:
        """What other clients would do: prompts and answers of changing lengths."""
        rng = Random(self._rng.random())
        while True:
            text = rng.choice(FILLERS).format(rng.randint(0, 10**9)) + " sea" * rng.randint(0, 60)
            body = {"model": self._model, "prompt": text, "max_tokens": rng.randint(2, 40), "temperature": 1}
            with contextlib.suppress(httpx2.HTTPError):
                await self._http.post("/v1/completions", json=body)
            await asyncio.sleep(0)
