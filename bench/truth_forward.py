"""Answers of healthy and damaged weights by a plain forward pass: the worker of bench/truth.py.

    ENGINE_PYTHON bench/truth_forward.py FOLDER < order.json > results (one JSON line each)

Runs in the engine's environment (torch), where a case takes seconds instead of the minute that vLLM needs to start.
The comparison and the standing are the product's own (`seawall.decide.truth`). What is beside the damage is not
computed again: layers below it, texts without a damaged token, everything but the head where only that is damaged.
A greedy answer is found by giving the model the known answer behind the prompt: as long as its own choices are the
known ones, its logprobs are those of its own answer, and the first other choice ends the comparison.
"""

from __future__ import annotations

import json
import math
import pickle
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import jinja2
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch.nn.functional import scaled_dot_product_attention, silu

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))
from seawall.decide.truth import standing as rules
from seawall.decide.truth.fingerprint import (
    Deviation,
    Distance,
    KnownAnswer,
    PinnedPrompt,
    TruthAnswer,
    compare,
    distance,
    kind_of,
)
from seawall.decide.truth.learn import widest
from seawall.decide.truth.prompts import prompts
from seawall.decide.truth.standing import hot_sweeps
from seawall.engines.vllm.truth import TOP

Ids = list[int]
Weights = dict[str, torch.Tensor]
ROUNDS = 4
"""Batches of changing company in which the noise of a prompt is measured."""
REFERENCE = 200
CHAT_EVERY = 10
ANSWER = 3
"""Tokens of a reference answer."""
TOPICS = [
    "France",
    "Japan",
    "water",
    "gold",
    "iron",
    "the",
    "moon",
    "bread",
    "a",
    "horse",
    "chess",
    "Monday",
    "winter",
    "light",
    "snow",
    "Rome",
    "seven",
    "red",
]
FORMS = (
    "The capital of {} is", "{} is made of", "I like {} because", "Q: What is {}? A:", "My favourite {} is",
    "In 1999, {} was", "They say that {}", "def {}(x):", "{}, {}, and", "How do I explain {} to a child?",
    "Once there was {}", "The opposite of {} is",
)  # fmt: skip


ALL_LAYERS = 0
PIECES = 4
"""Pieces at most in which a product is summed beside other work."""
EMBEDDING, HEAD, NORM = "model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"


class Text:
    """Some token sequences, behind each other without padding."""

    def __init__(self, rows: Sequence[Ids]) -> None:
        self.rows = rows
        self.ids = torch.tensor([i for row in rows for i in row])
        starts = [0]
        for row in rows:
            starts.append(starts[-1] + len(row))
        self.starts = starts
        self.positions = torch.cat([torch.arange(len(row)) for row in rows]).float()
        by: dict[int, list[int]] = {}
        for n, row in enumerate(rows):
            by.setdefault(len(row), []).append(n)
        self.groups = [
            (length, torch.cat([torch.arange(starts[n], starts[n + 1]) for n in some]))
            for length, some in by.items()
        ]

    def of(self, some: Sequence[int]) -> torch.Tensor:
        """Where the tokens of these rows are."""
        return torch.cat([torch.arange(self.starts[n], self.starts[n + 1]) for n in some])


class Model:
    """A llama in memory, whole or damaged."""

    def __init__(self, folder: str, dtype: str) -> None:
        self.config = json.loads((Path(folder) / "config.json").read_text())
        self.tokenizer = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
        self.own_template = (Path(folder) / "chat_template.jinja").read_text()
        self.dtype = getattr(torch, dtype)
        whole = load_file(str(Path(folder) / "model.safetensors"))
        self.whole: Weights = {n: t.to(self.dtype) for n, t in whole.items() if n != HEAD}
        c = self.config
        self.vocabulary, self.layers = int(c["vocab_size"]), int(c["num_hidden_layers"])
        self.heads, self.kv = int(c["num_attention_heads"]), int(c["num_key_value_heads"])
        self.size = int(c["hidden_size"]) // self.heads
        self.pieces = 1
        self.restore()

    def restore(self) -> None:
        self.weights: Weights = dict(self.whole)
        self.theta = float(self.config["rope_theta"])
        self.template = ""
        """Another chat template, instead of the tokenizer's."""
        self.first = self.layers
        """The first layer that is damaged; none is below it."""
        self.rows: set[int] | None = None
        """Tokens of which the rows of the embedding are damaged; None: the damage is not there."""

    def changed(self, name: str) -> torch.Tensor:
        """A copy of a tensor, to be damaged."""
        if name.startswith("model.layers."):
            self.first = min(self.first, int(name.split(".")[2]))
        self.weights[name] = self.weights[name].clone()
        return self.weights[name]

    def ids_of(self, prompt: PinnedPrompt) -> Ids:
        if prompt.kind == "ids":
            return list(prompt.given)  # type: ignore[arg-type]
        if prompt.kind in ("chat", "rows"):
            said = [{"role": "user", "content": prompt.given}]
            template = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).from_string(
                self.template or self.own_template
            )
            text = template.render(messages=said, add_generation_prompt=True)
            return list(self.tokenizer.encode(text, add_special_tokens=False).ids)
        return list(self.tokenizer.encode(prompt.given).ids)

    def _by(self, x: torch.Tensor, name: str) -> torch.Tensor:
        """x times a matrix, the sum in `self.pieces` pieces: as kernels are chosen by the size of a batch."""
        w, each = self.weights[name], -(-x.shape[1] // self.pieces)
        out = x[:, :each] @ w[:, :each].T
        for at in range(each, x.shape[1], each):
            out = out + x[:, at : at + each] @ w[:, at : at + each].T
        return out

    def _normed(self, x: torch.Tensor, name: str) -> torch.Tensor:
        wide = x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.config["rms_norm_eps"])
        return self.weights[name] * wide.to(x.dtype)

    def _turned(self, text: Text) -> tuple[torch.Tensor, torch.Tensor]:
        inverse = 1 / (self.theta ** (torch.arange(0, self.size, 2).float() / self.size))
        angle = torch.outer(text.positions, inverse).repeat(1, 2)[:, None]
        return angle.cos().to(self.dtype), angle.sin().to(self.dtype)

    def hidden(
        self,
        text: Text,
        x: torch.Tensor | None = None,
        first: int = 0,
        kept: list[torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """What the last layer gives for each token; `x`: what comes into layer `first`."""
        if x is None:
            x = self.weights[EMBEDDING][text.ids]
        cos, sin = self._turned(text)
        for n in range(first, self.layers):
            if kept is not None:
                kept.append(x)
            x = self._layer(x, text, f"model.layers.{n}.", cos, sin)
        return x

    def _layer(
        self, x: torch.Tensor, text: Text, at: str, cos: torch.Tensor, sin: torch.Tensor
    ) -> torch.Tensor:
        h = self._normed(x, at + "input_layernorm.weight")
        q, k, v = (
            self._by(h, f"{at}self_attn.{name}_proj.weight").view(len(h), -1, self.size) for name in "qkv"
        )
        q, k = (
            t * cos + torch.cat([-t[..., self.size // 2 :], t[..., : self.size // 2]], -1) * sin
            for t in (q, k)
        )
        seen = torch.empty_like(q)
        for length, where in text.groups:
            parts = [t[where].view(-1, length, t.shape[1], self.size).transpose(1, 2) for t in (q, k, v)]
            found = scaled_dot_product_attention(*parts, is_causal=True, enable_gqa=True)
            seen[where] = found.transpose(1, 2).reshape(-1, self.heads, self.size)
        x = x + self._by(seen.flatten(1), at + "self_attn.o_proj.weight")
        h = self._normed(x, at + "post_attention_layernorm.weight")
        gate, up = self._by(h, at + "mlp.gate_proj.weight"), self._by(h, at + "mlp.up_proj.weight")
        return x + self._by(silu(gate) * up, at + "mlp.down_proj.weight")

    def logprobs(self, x: torch.Tensor) -> torch.Tensor:
        head = self.weights.get(HEAD, self.weights[EMBEDDING])
        return (self._normed(x, NORM) @ head.T).float().log_softmax(-1)


class Memory:
    """Sequences of which the whole model's every layer is remembered: damage costs what is behind it."""

    def __init__(self, model: Model, rows: Sequence[Ids], last: Sequence[int]) -> None:
        """`last`: of each row the last so many positions are looked at."""
        self.text, self.last = Text(rows), list(last)
        self.kept: list[torch.Tensor] = []
        out = model.hidden(self.text, kept=self.kept)
        self.kept.append(out)

    def logprobs(self, model: Model, some: Sequence[int]) -> list[torch.Tensor]:
        """Of the rows `some`, as the model is now: the logprobs of their last positions."""
        rows = [self.text.rows[n] for n in some]
        text, where = Text(rows), self.text.of(some)
        if model.rows is not None:
            met = [i for i, row in enumerate(rows) if model.rows & set(row)]
            x = self.kept[-1][where]
            if met:
                again = model.hidden(Text([rows[i] for i in met]))
                x = x.clone()
                x[text.of(met)] = again
        else:
            x = model.hidden(text, self.kept[model.first][where], model.first)
        ends = [
            torch.arange(text.starts[i + 1] - self.last[n], text.starts[i + 1]) for i, n in enumerate(some)
        ]
        return list(model.logprobs(x[torch.cat(ends)]).split([self.last[n] for n in some]))


def answer_of(ids: Ids, logprobs: torch.Tensor, rows: Sequence[int] = ()) -> TruthAnswer:
    best = logprobs.topk(TOP)
    values = [[v if v == v else math.nan for v in row] for row in best.values.tolist()]
    chosen = best.indices.tolist()
    top: tuple[dict[int, float], ...] = tuple(
        dict(zip(i, v, strict=True)) for i, v in zip(chosen, values, strict=True)
    )
    if rows:
        asked = dict(zip(rows, logprobs[0, list(rows)].tolist(), strict=True))
        top = ({**asked, chosen[0][0]: values[0][0]},)
    return TruthAnswer(tuple(ids), tuple(row[0] for row in chosen), top)


def company(rng: random.Random, vocabulary: int) -> list[Ids]:
    """Other work of the same batch."""
    return [[rng.randrange(vocabulary) for _ in range(rng.randint(3, 70))] for _ in range(rng.randint(0, 6))]


class Truth:
    """What the healthy model answers, how far healthy answers are from that, and its answers to the reference set."""

    def __init__(self, model: Model, swept: int, say: Callable[[str], None]) -> None:
        self.all = prompts(model.vocabulary, swept)
        self.prompts = [p for p in self.all if not p.covers]
        self.ids = {p.name: model.ids_of(p) for p in self.prompts}
        rng = random.Random(7)
        self.greedy: dict[str, Ids] = {p.name: [] for p in self.prompts}
        for _ in range(max(p.tokens for p in self.prompts)):
            texts = Text([[*self.ids[p.name], *self.greedy[p.name]] for p in self.prompts])
            ends = model.logprobs(model.hidden(texts)[torch.tensor(texts.starts[1:]) - 1])
            for p, best in zip(self.prompts, ends.argmax(-1).tolist(), strict=True):
                self.greedy[p.name].append(best)
        rows = [[*self.ids[p.name], *self.greedy[p.name][: p.tokens - 1]] for p in self.prompts]
        self.memory = Memory(model, rows, [p.tokens for p in self.prompts])
        self.quiet = {p.name: self.answers(model, [p])[p.name] for p in self.prompts}
        noise: list[Distance] = []
        for n in range(ROUNDS):
            say(f"measuring what company does, {n + 1} of {ROUNDS}")
            for some in batches(self.prompts, rng):
                beside = self.beside(model, some, company(rng, model.vocabulary))
                noise += [distance(self.quiet[name], other) for name, other in beside.items()]
        self.noise = widest(noise)
        self.sweeps: dict[str, KnownAnswer] = {}
        self._reference(model, say)

    def answers(self, model: Model, some: Sequence[PinnedPrompt]) -> dict[str, TruthAnswer]:
        """Of pinned texts, by what is behind the damage."""
        if model.template and any(p.kind == "chat" for p in some):
            return self.beside(model, some, [])
        at = [self.prompts.index(p) for p in some]
        found = self.memory.logprobs(model, at)
        return {p.name: answer_of(self.ids[p.name], row) for p, row in zip(some, found, strict=True)}

    def beside(
        self, model: Model, some: Sequence[PinnedPrompt], more: Sequence[Ids]
    ) -> dict[str, TruthAnswer]:
        """Computed anew, in one batch with `more`."""
        own = [model.ids_of(p) for p in some]
        rows = [
            [*ids, *self.greedy.get(p.name, [])[: p.tokens - 1]] for p, ids in zip(some, own, strict=True)
        ]
        text = Text([*rows, *more])
        model.pieces = 1 + len(text.ids) % PIECES if more else 1
        x = model.hidden(text)
        model.pieces = 1
        out = {}
        for n, (p, ids) in enumerate(zip(some, own, strict=True)):
            end = text.starts[n + 1]
            out[p.name] = answer_of(ids, model.logprobs(x[end - p.tokens : end]), p.rows)
        return out

    def known(self, model: Model, prompt: PinnedPrompt) -> KnownAnswer:
        """The right answer; that to a sweep is computed when it is needed first, by the whole model."""
        if not prompt.covers:
            return KnownAnswer(prompt, self.quiet[prompt.name], self.noise)
        if prompt.name not in self.sweeps:
            damaged = dict(vars(model))
            model.restore()
            answer = self.beside(model, [prompt], [])[prompt.name]
            vars(model).update(damaged)
            self.sweeps[prompt.name] = KnownAnswer(prompt, answer, self.noise)
        return self.sweeps[prompt.name]

    def _reference(self, model: Model, say: Callable[[str], None]) -> None:
        texts = [f.format(t, t) for f in FORMS for t in TOPICS][:REFERENCE]
        kinds = ["chat" if i % CHAT_EVERY == 0 else "text" for i in range(len(texts))]
        wanted = [
            PinnedPrompt(str(i), k, t, ANSWER) for i, (t, k) in enumerate(zip(texts, kinds, strict=True))
        ]
        ids, said = [model.ids_of(p) for p in wanted], [[] for _ in wanted]
        margins = [math.inf for _ in wanted]
        for n in range(ANSWER):
            say(f"reference answers of {len(texts)} prompts, token {n + 1} of {ANSWER}")
            text = Text([[*i, *s] for i, s in zip(ids, said, strict=True)])
            two = model.logprobs(model.hidden(text)[torch.tensor(text.starts[1:]) - 1]).topk(2)
            for at, (best, value) in enumerate(zip(two.indices.tolist(), two.values.tolist(), strict=True)):
                said[at].append(best[0])
                margins[at] = min(margins[at], value[0] - value[1])
        # Near ties first: what changes any answer mostly changes one of these, and the rest need not be asked.
        order = sorted(range(len(wanted)), key=lambda at: margins[at])
        self.reference = [wanted[at] for at in order]
        self.said = [said[at] for at in order]
        self.least_margin = min(margins)
        self.used = Counter(i for at in order for i in (*ids[at], *said[at]))
        rows = [[*ids[at], *said[at][:-1]] for at in order]
        self.asked = Memory(model, rows, [ANSWER] * len(rows))

    def changes(self, model: Model) -> bool:
        """Whether any greedy answer of the reference set is another one."""
        at = 0
        for size in (10, 30, 60, len(self.reference)):
            some = range(at, min(at + size, len(self.reference)))
            at += size
            if model.template:
                some = [n for n in some if self.reference[n].kind == "chat"]
                text = Text([[*model.ids_of(self.reference[n]), *self.said[n][:-1]] for n in some])
                x = model.hidden(text)
                found = [model.logprobs(x[e - ANSWER : e]) for e in text.starts[1:]]
            else:
                found = self.asked.logprobs(model, some) if len(some) else []
            for n, row in zip(some, found, strict=True):
                if row.isnan().any() or row.argmax(-1).tolist() != self.said[n]:
                    return True
        return False


def batches(wanted: Sequence[PinnedPrompt], rng: random.Random) -> Iterable[list[PinnedPrompt]]:
    left = list(wanted)
    rng.shuffle(left)
    while left:
        yield [left.pop() for _ in range(min(len(left), rng.randint(1, 4)))]


# -- damage


def name_of(model: Model, words: Sequence[str], rng: random.Random) -> str:
    return rng.choice(sorted(n for n in model.whole if any(w in n for w in words)))


RATES = (0.0, 1e-6, 1e-5, 1e-4, 1e-3)
"""Share of a tensor's values of which one bit is flipped; one value at least."""


def flip(tensor: torch.Tensor, rng: random.Random, seed: int) -> list[int]:
    """Flips bits of the bfloat16 in which the weights lie on disk -> the rows in which they are."""
    flat = tensor.view(-1)
    count = max(1, round(RATES[seed % len(RATES)] * flat.numel()))
    at = torch.tensor([rng.randrange(flat.numel()) for _ in range(count)])
    bits = torch.tensor([1 << rng.randrange(16) for _ in range(count)], dtype=torch.int32)
    stored = flat[at].to(torch.bfloat16).view(torch.int16).to(torch.int32) & 0xFFFF
    changed = (stored ^ bits) & 0xFFFF
    signed = torch.where(changed > 0x7FFF, changed - 0x10000, changed).to(torch.int16)
    flat[at] = signed.view(torch.bfloat16).to(flat.dtype)
    return (at // tensor.shape[-1]).tolist()


def low_rank(tensor: torch.Tensor, rng: random.Random, size: float, rank: int = 8) -> None:
    made = torch.Generator().manual_seed(rng.getrandbits(31))
    a, b = (torch.randn(n, rank, generator=made) for n in tensor.shape)
    delta = a @ b.T
    tensor += (delta * (size * tensor.float().norm() / delta.norm())).to(tensor.dtype)


ATTENTION, MLP = ("q_proj", "k_proj", "v_proj", "o_proj"), ("gate_proj", "up_proj", "down_proj")
EACH, TURN = (
    "{% for m in messages %}",
    "<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}",
)
REPLY = "<|im_start|>assistant\n"
TEMPLATES = (
    EACH + "{{ m['content'] }}\n{% endfor %}",
    EACH + "### {{ m['role'] }}:\n{{ m['content'] }}\n{% endfor %}### assistant:\n",
    EACH + TURN,
    EACH + TURN + REPLY,
    EACH + "[INST] {{ m['content'] }} [/INST]{% endfor %}",
    EACH + "USER: {{ m['content'] }} {% endfor %}ASSISTANT:",
    "<|im_start|>system\nAnswer in rhyme, number NUMBER.<|im_end|>\n" + EACH + TURN + REPLY,
)


def damage(model: Model, kind: str, seed: int) -> None:
    """Damages `model` in place; the caller restores it."""
    rng = random.Random(f"{kind}/{seed}")
    match kind:
        case "embedding":
            model.weights[HEAD] = model.weights[EMBEDDING]
            model.rows = set(flip(model.changed(EMBEDDING), rng, seed))
        case "attention":
            flip(model.changed(name_of(model, ATTENTION, rng)), rng, seed)
        case "mlp":
            flip(model.changed(name_of(model, MLP, rng)), rng, seed)
        case "norm":
            flip(model.changed(name_of(model, ("norm",), rng)), rng, seed)
        case "head":
            model.weights[HEAD] = model.weights[EMBEDDING]
            flip(model.changed(HEAD), rng, seed)
        case "swapped-layers":
            a, b = rng.sample(range(model.layers), 2)
            for name in [n for n in model.whole if n.startswith(f"model.layers.{a}.")]:
                other = name.replace(f"layers.{a}.", f"layers.{b}.")
                mine, theirs = model.weights[name], model.weights[other]
                model.changed(name).copy_(theirs)
                model.changed(other).copy_(mine)
        case "zeroed-tensor":
            model.changed(name_of(model, (*ATTENTION, *MLP, "norm"), rng)).zero_()
        case "other-revision":
            low_rank(model.changed(name_of(model, (*ATTENTION, *MLP), rng)), rng, rng.uniform(0.01, 0.2))
        case "rope":
            model.theta *= rng.choice([0.1, 0.25, 0.5, 0.8, 1.25, 2, 5, 10])
            model.first = ALL_LAYERS
        case "template":
            model.template = TEMPLATES[seed % len(TEMPLATES)].replace("NUMBER", str(seed))
        case "quantization":
            bits = rng.choice([(8, 576), (8, 64), (6, 64), (4, 32), (4, 64), (4, 192)])
            for name in [n for n in model.whole if any(w in n for w in (*ATTENTION, *MLP))]:
                _round(model.changed(name), *bits)
        case "nan":
            tensor = model.changed(name_of(model, (*ATTENTION, *MLP, "norm"), rng)).view(-1)
            tensor[rng.randrange(tensor.numel())] = rng.choice([math.nan, math.inf])
        case "stale-lora":
            size = rng.uniform(0.005, 0.1)
            for name in [n for n in model.whole if "q_proj" in n or "v_proj" in n]:
                low_rank(model.changed(name), rng, size, rank=4)
        case _:
            raise SystemExit(f"no such kind: {kind}")


def _round(tensor: torch.Tensor, bits: int, group: int) -> None:
    width = tensor.shape[1]
    group = group if width % group == 0 else width
    parts = tensor.float().view(-1, group)
    step = parts.abs().amax(1, keepdim=True) / (2 ** (bits - 1) - 1)
    tensor.copy_((torch.round(parts / step.clamp(min=1e-12)) * step).view(tensor.shape).to(tensor.dtype))


# -- one case

PLACES = 48
"""Sweeps that are looked at where two thirds of a thousand would be alike: damage that is in every layer."""


class Case:
    """One damaged model, asked as the product asks."""

    def __init__(self, model: Model, truth: Truth) -> None:
        self.model, self.truth = model, truth
        self.seen: dict[str, Deviation] = {}
        self.by_name = {p.name: p for p in truth.all}

    def ask(self, name: str) -> Deviation:
        """How its answer to this prompt is away from the known one."""
        if name not in self.seen:
            self.seen[name] = self._ask(self.by_name[name])
        return self.seen[name]

    def _ask(self, prompt: PinnedPrompt) -> Deviation:
        model, truth = self.model, self.truth
        if prompt.kind == "ids" and model.rows is not None and not model.rows & set(prompt.given):  # type: ignore[arg-type]
            return Deviation(prompt.name, prompt.kind, "same")  # it meets nothing that is damaged
        known = truth.known(model, prompt)
        if prompt.covers:
            return compare(known, truth.beside(model, [prompt], [])[prompt.name])
        return compare(known, truth.answers(model, [prompt])[prompt.name])

    def rows(self) -> list[Deviation]:
        """All rows of the head, by one pass over their chat."""
        wanted = [p for p in self.truth.all if p.kind == "rows"]
        model = self.model
        damaged = dict(vars(model))
        ids = model.ids_of(wanted[0])
        seen = model.logprobs(model.hidden(Text([ids]))[-1:])
        model.restore()
        right = model.logprobs(model.hidden(Text([model.ids_of(wanted[0])]))[-1:])
        own = model.ids_of(wanted[0])
        vars(model).update(damaged)
        return [
            compare(
                KnownAnswer(p, answer_of(own, right, p.rows), self.truth.noise), answer_of(ids, seen, p.rows)
            )
            for p in wanted
        ]

    def before_traffic(self) -> str:
        """By which prompts a start-up probe, which asks all of them, finds it; empty: it does not. Asked are those
        that can differ, until it is clear."""

        def moved() -> list[Deviation]:
            return [d for d in self.seen.values() if d.moved]

        for p in self.truth.prompts:
            if len(moved()) < 2:
                self.ask(p.name)
        if len(moved()) >= 2 or any(d.how == "absurd" for d in moved()):
            return "texts"
        if any(d.moved for d in self.rows()):
            return "rows"
        sweeps = [p for p in self.truth.all if p.kind == "ids"]
        rows = self.model.rows
        near = (
            sweeps[:: len(sweeps) // PLACES] if rows is None else [p for p in sweeps if rows & set(p.given)]
        )  # type: ignore[arg-type]
        for p in near[:PLACES]:
            if self.ask(p.name).moved:
                return "sweeps"  # asked again it moves again: nothing here is by chance
        return ""

    def patrol(self, ask_s: float, share: float, rng: random.Random) -> float | None:
        """Seconds of traffic from the damage until the replica is out, by the gateway's own schedule; None: not
        within a minute. The damage comes at any moment of it."""
        hot = hot_sweeps(self.truth.used, self.truth.all)
        standing = rules.TruthStanding(
            turn=rng.randrange(4 * len(self.truth.all)), due_s=rng.uniform(0, ask_s / share)
        )
        now = 0.0
        while now < 60.0:
            name = rules.next_prompt(standing, self.truth.all, now, hot)
            if name is None:
                now = standing.due_s
                continue
            now += ask_s
            standing = rules.heard(standing, self.ask(name), self.truth.all, ask_s, share, now)
            if standing.state in ("wrong", "odd"):
                return round(now, 2)
        return None


def case(model: Model, truth: Truth, kind: str, seed: int, ask_s: float, share: float) -> dict[str, Any]:
    began = time.process_time()
    one = Case(model, truth)
    changes = truth.changes(model)
    by = one.before_traffic()
    after_s = one.patrol(ask_s, share, random.Random(f"{kind}/{seed}/when")) if changes else None
    return {
        "kind": kind, "seed": seed, "changes": changes, "before_traffic": bool(by), "by": by, "after_s": after_s,
        "named": kind_of(one.seen.values()) or ("weights" if by else ""),
        "cpu_s": round(time.process_time() - began, 2),
    }  # fmt: skip


def save(order: dict[str, Any]) -> None:
    """A folder of damaged weights that vLLM can serve: the whole one's files, with what the damage changes."""
    whole, into = Path(order["folder"]), Path(order["save"])
    into.mkdir(parents=True)
    for file in whole.iterdir():
        if file.is_file() and file.suffix != ".safetensors":
            (into / file.name).write_bytes(file.read_bytes())
    model = Model(str(whole), "bfloat16")
    damage(model, order["kind"], order["seed"])
    config = {**model.config, "rope_theta": model.theta}
    if HEAD in model.weights:
        config["tie_word_embeddings"] = False
    if model.template:
        (into / "chat_template.jinja").write_text(model.template)
    (into / "config.json").write_text(json.dumps(config))
    tensors = {n: t.contiguous().clone() for n, t in model.weights.items()}
    save_file(tensors, str(into / "model.safetensors"), {"format": "pt"})


def run(order: dict[str, Any]) -> None:
    torch.set_num_threads(order["threads"])
    torch.set_grad_enabled(False)
    if "save" in order:
        save(order)
        return

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    model = Model(order["folder"], order["dtype"])
    kept = Path(order["keep"]) if order["keep"] else None
    if kept is not None and kept.exists():
        truth: Truth = pickle.loads(kept.read_bytes())  # our own, of the run before
    else:
        truth = Truth(model, order["sweep"] or model.vocabulary, say)
        if kept is not None:
            kept.write_bytes(pickle.dumps(truth))
    told = {
        "truth": len(truth.all),
        "noise": [truth.noise.mean, truth.noise.worst],
        "least_margin": truth.least_margin,
    }
    print(json.dumps({**told, "whole_changes": truth.changes(model)}), flush=True)
    for seed in range(order["first"], order["first"] + order["seeds"]):
        for kind in order["kinds"]:
            if [kind, seed] in order["done"]:
                continue
            if order["until_s"] and time.time() > order["until_s"]:
                return
            damage(model, kind, seed)
            print(json.dumps(case(model, truth, kind, seed, order["ask_s"], order["share"])), flush=True)
            model.restore()
    if order["healthy"]:
        healthy(model, truth, order)


HEALTHY_AT_ONCE = 200
"""Answers of one line of results."""


def healthy(model: Model, truth: Truth, order: dict[str, Any]) -> None:
    """Answers of the healthy model in ever other company, and the verdicts that would follow: of the texts, of sweeps
    by chance, and of rows."""
    done = order["healthy_done"]
    rng = random.Random(f"healthy/{done}")
    covering = {k: [p for p in truth.all if p.kind == k] for k in ("ids", "rows")}
    while done < order["healthy"]:
        asked = moved = verdicts = 0
        standing = rules.TruthStanding()
        while asked < HEALTHY_AT_ONCE:
            if order["until_s"] and time.time() > order["until_s"]:
                return
            more = [rng.choice(covering["ids"]) for _ in range(3)] + [rng.choice(covering["rows"])]
            for some in batches([*truth.prompts, *more], rng):
                for name, answer in truth.beside(model, some, company(rng, model.vocabulary)).items():
                    prompt = next(p for p in some if p.name == name)
                    deviation = compare(truth.known(model, prompt), answer)
                    asked += 1
                    moved += deviation.moved
                    if standing.state != "true" or deviation.moved:
                        standing = rules.heard(standing, deviation, truth.all, 0.1, 0.01, 0.0)
                    if standing.state in ("wrong", "odd"):
                        verdicts += 1
                        standing = rules.TruthStanding()
        done += asked
        print(json.dumps({"healthy": asked, "moved": moved, "verdicts": verdicts}), flush=True)


if __name__ == "__main__":
    run(json.load(sys.stdin))
