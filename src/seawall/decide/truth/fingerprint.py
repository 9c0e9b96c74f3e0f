"""What a model answers to a few pinned prompts, and how far an answer may be from that: a fingerprint.

A load balancer in front of one damaged replica makes every Nth answer wrong, and nothing looks ill: /health says 200
and tokens come. So replicas are asked prompts whose answers are known: a short greedy answer, with the best tokens of
each step and their logprobs, in which every layer and every token before has a part. The distance of an answer is the
mean and the worst difference of these logprobs. (The prompt's own logprobs would show more, and can kill vLLM.)
How much of it is rounding is measured on healthy replicas while other work is batched with the prompts: the largest
distance of any prompt, for all of them.

One comparison for every shell: the gateway, `seawall fingerprint`, and the probe script inside a Pod, beside which
this very file is mounted. Forbidden here, therefore: any import but the standard library's, awaiting, clocks, files.
"""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

VERSION = 1
COVERING = ("ids", "rows")
MARGIN = 3.0
"""Times the largest distance that was measured between healthy answers. Two different prompts must be beyond it."""
FINEST = 2e-5
"""Distances below this are the last digits of a float32 logprob, whatever was measured."""
THOUSANDTH = 0.001
ABSURD = 100.0
"""A logprob further from the known one than this comes from no sane softmax: vLLM writes -9999 for -inf."""
SENSELESS = 2.0
"""Nats by which the tokens that the model is sure of have become less likely, in the mean: what it says makes no sense.
Another revision of a model changes them by tenths."""


@dataclass(frozen=True)
class PinnedPrompt:
    """One pinned question. `kind`: chat (through the template), text (through the tokenizer), ids (neither: a sweep,
    whose ids' rows of the embedding are read), rows (a chat that asks how likely each of `rows` is, so that these rows
    of the head are read)."""

    name: str
    kind: str
    given: str | tuple[int, ...]
    tokens: int = 2
    """Length of its greedy answer: one step that reads the prompt, one that decodes. More would cost as much as another
    prompt, and tell less."""
    rows: tuple[int, ...] = ()

    @property
    def covers(self) -> bool:
        """Whether this prompt is there for the rows of some tokens, which no other meets."""
        return self.kind in COVERING


@dataclass(frozen=True)
class TruthAnswer:
    """What a replica answered to a prompt."""

    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]
    top: tuple[Mapping[int, float], ...]
    """The best tokens of each step of the answer, and their logprobs."""


@dataclass(frozen=True)
class Distance:
    """How far two answers are from each other, in nats."""

    mean: float = 0.0
    worst: float = 0.0

    def beyond(self, bound: Distance) -> bool:
        return self.mean > bound.mean or self.worst > bound.worst

    def times(self) -> Distance:
        """The bound that follows from this as the largest distance of healthy answers."""
        return Distance(max(FINEST, MARGIN * self.mean), max(5 * FINEST, MARGIN * self.worst))


@dataclass(frozen=True)
class KnownAnswer:
    """A prompt, its right answer, and the largest distance that was seen between healthy answers."""

    prompt: PinnedPrompt
    answer: TruthAnswer
    noise: Distance

    @property
    def bound(self) -> Distance:
        """How far a healthy answer may be. Logprobs of rows are kept in thousandths."""
        bound = self.noise.times()
        if self.prompt.kind != "rows":
            return bound
        return Distance(max(2 * THOUSANDTH, bound.mean), max(5 * THOUSANDTH, bound.worst))


@dataclass(frozen=True)
class Identity:
    """What a fingerprint holds for. Empty: not known, which agrees with everything."""

    model: str = ""
    revision: str = ""
    weights: str = ""
    """Digest of the lockfile that the weights were verified against."""
    engine: str = ""
    dtype: str = ""
    quantization: str = ""
    device: str = ""
    flags: str = ""
    """Further flags of the engine, such as another chat template."""

    def differs(self, other: Identity) -> str:
        """The first field that says that a fingerprint is of something else; empty: none does."""
        mine, theirs = asdict(self), asdict(other)
        return next((k for k in mine if mine[k] and theirs[k] and mine[k] != theirs[k]), "")


@dataclass(frozen=True)
class Fingerprint:
    """Right answers, and where they are from."""

    identity: Identity
    source: str
    """In words: verified weights, or the replicas that agreed."""
    known: tuple[KnownAnswer, ...]

    def of(self, name: str) -> KnownAnswer | None:
        return next((k for k in self.known if k.prompt.name == name), None)


@dataclass(frozen=True)
class Deviation:
    """How one answer is away from the known one. `how`: same, drift (likely tokens stay likely), senseless, prompt
    (other ids for the same question), or absurd (no number, or no logprob)."""

    prompt: str
    kind: str
    how: str
    distance: Distance = Distance()
    bound: Distance = Distance()

    @property
    def moved(self) -> bool:
        return self.how != "same"

    def __str__(self) -> str:
        if self.how == "same":
            return f"{self.prompt}: as known"
        if self.how == "prompt":
            return f"{self.prompt}: the same question has become other token ids"
        if self.how == "absurd":
            return f"{self.prompt}: logprobs that are no numbers"
        far = f"{self.distance.mean:.2g} nats in the mean, {self.distance.worst:.2g} at worst"
        return f"{self.prompt}: {far} (healthy: {self.bound.mean:.2g} and {self.bound.worst:.2g})"


def differences(known: TruthAnswer, seen: TruthAnswer) -> list[float]:
    """Signed differences of the logprobs of the same tokens after the same text. A step at which the two chose
    differently is the last that has the same text before it: a near tie differs by little there."""
    out: list[float] = []
    for i, (mine, theirs) in enumerate(zip(known.top, seen.top, strict=False)):
        least = min(theirs.values(), default=0.0)
        for token, logprob in mine.items():
            if token in theirs:
                out.append(theirs[token] - logprob)
            elif logprob > least:
                out.append(least - logprob)  # at least so far: it is not among their best
        if known.ids[i : i + 1] != seen.ids[i : i + 1]:
            break
    return out


def distance(known: TruthAnswer, seen: TruthAnswer) -> Distance:
    """The distance of two answers to one prompt; infinite where they are no answers to the same ids."""
    away = [abs(d) for d in differences(known, seen)]
    if known.prompt_ids != seen.prompt_ids or not away or not all(map(math.isfinite, away)):
        return Distance(math.inf, math.inf)
    return Distance(sum(away) / len(away), max(away))


def compare(known: KnownAnswer, seen: TruthAnswer) -> Deviation:
    """The move of one answer."""
    prompt, bound = known.prompt, known.bound
    numbers = [v for step in seen.top for v in step.values()]
    away = distance(known.answer, seen)
    if not all(map(math.isfinite, numbers)) or not numbers:
        return Deviation(prompt.name, prompt.kind, "absurd", away, bound)
    if seen.prompt_ids != known.answer.prompt_ids:
        return Deviation(prompt.name, prompt.kind, "prompt", away, bound)
    if not away.beyond(bound):
        return Deviation(prompt.name, prompt.kind, "same", away, bound)
    if away.worst > ABSURD and min(numbers) < -ABSURD:
        return Deviation(prompt.name, prompt.kind, "absurd", away, bound)
    return Deviation(
        prompt.name, prompt.kind, "senseless" if _senseless(known.answer, seen) else "drift", away, bound
    )


def _senseless(known: TruthAnswer, seen: TruthAnswer) -> bool:
    """Tokens that the model was sure of (a third of the weight, or more) are likely no more."""
    pairs: list[tuple[float, float]] = []
    for mine, theirs, token in zip(known.top, seen.top, known.ids, strict=False):
        pairs.append((mine[token], theirs.get(token, min(theirs.values(), default=0.0))))
        if token not in theirs:
            break
    sure = [b - a for a, b in pairs if a > -1.1]
    return bool(sure) and sum(sure) / len(sure) < -SENSELESS


def noise_of(answers: Sequence[TruthAnswer]) -> Distance:
    """The largest distance of healthy answers to one prompt from the first of them."""
    away = [distance(answers[0], other) for other in answers[1:]]
    return Distance(max((d.mean for d in away), default=0.0), max((d.worst for d in away), default=0.0))


def kind_of(moves: Iterable[Deviation]) -> str:
    """What is wrong, by which prompts moved and how: template, revision, weights or numeric; empty: nothing.

    template    only what goes through it: other ids for a chat, and the answers to given ids are as known
    revision    every prompt, and what it says still makes sense: another revision, tokenizer, rope or quantization
    weights     answers that make no sense, or only those that meet a damaged place
    numeric     NaN or infinity, or everything by little more than rounding: another dtype or kernel
    """
    moves = tuple(moves)
    moved = [m for m in moves if m.moved]
    if not moved:
        return ""
    if any(m.how == "absurd" for m in moved):
        return "numeric"
    if all(_by_template(m) for m in moved) and not all(m.kind in ("chat", "rows") for m in moves):
        return "template"
    if all(m.how == "prompt" for m in moved):
        return "revision"
    away = [m for m in moved if m.how != "prompt"]
    if len(moved) < len(moves) or any(m.how == "senseless" for m in away):
        return "weights"
    return "numeric" if all(_little(m) for m in away) else "revision"


def _by_template(move: Deviation) -> bool:
    return move.kind in ("chat", "rows") and move.how == "prompt"


def _little(move: Deviation) -> bool:
    return move.distance.mean < 0.02 or move.distance.mean < 2 * move.bound.mean


WORDS = {
    "template": "its chat template is not the fleet's",
    "revision": "its model is another: revision, tokenizer, rope setting or quantization",
    "weights": "its weights are damaged",
    "numeric": "it computes otherwise: NaN, infinity, another dtype or kernel",
}
"""What `kind_of` says, in words."""


def read(data: Any) -> list[Fingerprint]:
    """A file's content -> its fingerprints. ValueError says what is wrong with it."""
    try:
        if data["version"] != VERSION:
            raise ValueError(f"version {data['version']!r}, not {VERSION}")
        return [_read_one(one) for one in data["fingerprints"]]
    except (KeyError, TypeError, AttributeError, IndexError, StopIteration, struct.error) as e:
        raise ValueError(f"not a file of fingerprints ({type(e).__name__}: {e})") from None


def _read_one(one: Any) -> Fingerprint:
    known: list[KnownAnswer] = []
    for k in one["known"]:
        if "like" in k:
            k = {**next(other for other in one["known"] if other["name"] == k["like"]), **k}
        given = k["given"] if isinstance(k["given"], str) else _ids(k["given"])
        if k["kind"] not in ("chat", "text", *COVERING) or (k["kind"] == "ids") == isinstance(given, str):
            raise ValueError(f"{k['name']}: its kind and its question do not fit")
        rows = _ids(k["rows"]) if k["kind"] == "rows" else ()
        top = tuple({int(t): float(v) for t, v in step.items()} for step in k["top"])
        if rows:
            top = ({**dict(zip(rows, _unpacked(k["thousandths"]), strict=True)), **top[0]},)
        answer = TruthAnswer(
            given if isinstance(given, tuple) else tuple(int(i) for i in k["promptIds"]),
            tuple(int(i) for i in k["ids"]),
            top,
        )
        if len(answer.ids) != len(top) or any(t not in step for t, step in zip(answer.ids, top, strict=True)):
            raise ValueError(f"{k['name']}: its answer is not among its best tokens")
        prompt = PinnedPrompt(str(k["name"]), str(k["kind"]), given, max(1, len(answer.ids)), rows)
        known.append(
            KnownAnswer(prompt, answer, Distance(float(k["noise"]["mean"]), float(k["noise"]["worst"])))
        )
    if not known or len({k.prompt.name for k in known}) != len(known):
        raise ValueError("no prompts, or two of one name")
    return Fingerprint(
        Identity(**{k: str(v) for k, v in one["of"].items()}), str(one["source"]), tuple(known)
    )


def written(fingerprints: Iterable[Fingerprint]) -> dict[str, Any]:
    """The file's content: `read` of it is the same again."""
    return {"version": VERSION, "fingerprints": [_written_one(f) for f in fingerprints]}


def _written_one(f: Fingerprint) -> dict[str, Any]:
    chats = {(k.prompt.given, k.answer.prompt_ids): k.prompt.name for k in f.known if k.prompt.kind == "chat"}
    return {
        "of": {k: v for k, v in asdict(f.identity).items() if v},
        "source": f.source,
        "known": [_written_known(k, chats) for k in f.known],
    }


SWEPT_BEST = 10
"""Best tokens that are kept of a sweep, of which there are many."""


def _written_known(k: KnownAnswer, chats: Mapping[Any, str]) -> dict[str, Any]:
    """`chats`: what others have asked already, to be named instead of repeated."""
    prompt, answer = k.prompt, k.answer
    out: dict[str, Any] = {
        "name": prompt.name,
        "kind": prompt.kind,
        "ids": list(answer.ids),
        "noise": {"mean": float(f"{k.noise.mean:.3g}"), "worst": float(f"{k.noise.worst:.3g}")},
    }
    top = list(answer.top)
    like = chats.get((prompt.given, answer.prompt_ids)) if prompt.kind == "rows" else None
    if like is not None:
        out["like"] = like
    else:
        out["given"] = prompt.given if isinstance(prompt.given, str) else _spans(prompt.given)
        if prompt.kind != "ids":
            out["promptIds"] = list(answer.prompt_ids)
    if prompt.kind == "rows":
        out["rows"] = _spans(prompt.rows)
        out["thousandths"] = _packed([top[0][i] for i in prompt.rows])
        top = [{answer.ids[0]: top[0][answer.ids[0]]}]
    if prompt.kind == "ids":
        top = [dict(sorted(step.items(), key=lambda one: -one[1])[:SWEPT_BEST]) for step in top]
    return out | {"top": [{str(t): _short(v) for t, v in step.items()} for step in top]}


def _spans(ids: Sequence[int]) -> list[list[int]]:
    """Ids as [first, last] of what follows each other: sweeps of a whole vocabulary stay small."""
    spans: list[list[int]] = []
    for i in ids:
        if spans and spans[-1][1] == i - 1:
            spans[-1][1] = i
        else:
            spans.append([i, i])
    return spans


LONGEST = 2**13
"""Ids of one prompt at most."""


def _ids(spans: Any) -> tuple[int, ...]:
    out: list[int] = []
    for first, last in spans:
        if not 0 <= int(first) <= int(last) < int(first) + LONGEST - len(out):
            raise ValueError(f"{first} to {last} is no span of ids of one prompt")
        out.extend(range(int(first), int(last) + 1))
    return tuple(out)


LEAST = -65.535


def _packed(values: Sequence[float]) -> str:
    """Logprobs in thousandths below nothing, two bytes each."""
    small = [round(-max(LEAST, min(0.0, v)) / THOUSANDTH) for v in values]
    return base64.b64encode(struct.pack(f"<{len(small)}H", *small)).decode()


def _unpacked(text: str) -> list[float]:
    data = base64.b64decode(text, validate=True)
    return [-THOUSANDTH * v for v in struct.unpack(f"<{len(data) // 2}H", data)]


def _short(value: float) -> float:
    """Without digits that a float32 logprob does not have."""
    return round(value, 6)
