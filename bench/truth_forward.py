"""Answers of healthy and damaged weights by a plain forward pass: the worker of bench/truth.py.

    ENGINE_PYTHON bench/truth_forward.py FOLDER < order.json > results (one JSON line each)

Runs in the engine's environment (torch, transformers), where a case takes seconds instead of the minute that vLLM
needs to start. The comparison and the standing are the product's own (`seawall.decide.truth`). A greedy answer is
found by giving the model the known answer behind the prompt: as long as its own choices are the known ones, its
logprobs are those of its own answer, and the first other choice ends the comparison.
"""

from __future__ import annotations

import json
import math
import pickle
import random
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

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
from seawall.engines.vllm.truth import TOP

Ids = list[int]
ROUNDS = 8
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


class Model:
    """One model in memory, whole or damaged."""

    def __init__(self, folder: str, dtype: str, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.net = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
        self.template = ""
        """Another chat template, instead of the tokenizer's."""
        self.head: torch.Tensor | None = None
        """A head of its own, where it no longer is the embedding."""

    def ids_of(self, prompt: PinnedPrompt) -> Ids:
        if prompt.kind == "ids":
            return list(prompt.given)  # type: ignore[arg-type]
        if prompt.kind == "chat":
            said = [{"role": "user", "content": prompt.given}]
            more = {"chat_template": self.template} if self.template else {}
            text = self.tokenizer.apply_chat_template(
                said, add_generation_prompt=True, tokenize=False, **more
            )
            return list(self.tokenizer(text, add_special_tokens=False).input_ids)
        return list(self.tokenizer(prompt.given).input_ids)

    def logprobs(self, rows: Sequence[Ids], last: Sequence[int]) -> list[torch.Tensor]:
        """The logprobs of the last `last[i]` positions of each row, computed as one batch."""
        width = max(map(len, rows))
        ids = torch.zeros(len(rows), width, dtype=torch.long)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
        with torch.inference_mode():
            hidden = self.net.model(ids).last_hidden_state
            head = self.net.lm_head.weight if self.head is None else self.head
            kept = [
                hidden[i, len(row) - n : len(row)] for i, (row, n) in enumerate(zip(rows, last, strict=True))
            ]
            logits = torch.cat(kept) @ head.T
        return list(logits.float().log_softmax(-1).split(list(last)))


def answer_of(ids: Ids, logprobs: torch.Tensor) -> TruthAnswer:
    best = logprobs.topk(TOP)
    values = [[v if v == v else math.nan for v in row] for row in best.values.tolist()]
    top = tuple(dict(zip(i, v, strict=True)) for i, v in zip(best.indices.tolist(), values, strict=True))
    return TruthAnswer(tuple(ids), tuple(row[0] for row in best.indices.tolist()), top)


def answers(
    model: Model, wanted: Sequence[PinnedPrompt], known: dict[str, Ids], company: Sequence[Ids] = ()
) -> Any:
    """Prompt -> answer, all in one batch with `company`."""
    rows, last, own = [], [], []
    for p in wanted:
        ids = model.ids_of(p)
        rows.append([*ids, *known.get(p.name, [])[: p.tokens - 1]])
        last.append(1 + len(rows[-1]) - len(ids))
        own.append(ids)
    rows, last = [*rows, *company], [*last, *(1 for _ in company)]
    found = model.logprobs(rows, last)
    return {p.name: answer_of(ids, row) for p, ids, row in zip(wanted, own, found, strict=False)}


def company(rng: random.Random, vocabulary: int) -> list[Ids]:
    """Other work of the same batch."""
    return [[rng.randrange(vocabulary) for _ in range(rng.randint(3, 70))] for _ in range(rng.randint(0, 6))]


class Truth:
    """What the healthy model answers, how far healthy answers are from that, and its answers to the reference set."""

    def __init__(self, model: Model, swept: int, say: Callable[[str], None]) -> None:
        self.vocabulary = int(model.net.config.vocab_size)
        self.prompts = prompts(self.vocabulary, swept)
        rng = random.Random(7)
        greedy: dict[str, Ids] = {}
        for _ in range(max(p.tokens for p in self.prompts)):
            for p in self.prompts:
                ids = [*model.ids_of(p), *greedy.get(p.name, [])]
                greedy.setdefault(p.name, []).append(int(model.logprobs([ids], [1])[0][0].argmax()))
        alone = {p.name: answers(model, [p], greedy)[p.name] for p in self.prompts}
        noise = {p.name: Distance() for p in self.prompts}
        for n in range(ROUNDS):
            say(f"measuring what company does, {n + 1} of {ROUNDS}")
            for some in batches(self.prompts, rng):
                for name, other in answers(model, some, greedy, company(rng, self.vocabulary)).items():
                    d = distance(alone[name], other)
                    noise[name] = Distance(max(noise[name].mean, d.mean), max(noise[name].worst, d.worst))
        self.greedy = greedy
        widest_noise = widest(noise.values())
        self.known = {p.name: KnownAnswer(p, alone[p.name], widest_noise) for p in self.prompts}
        self._reference(model, say)

    def _reference(self, model: Model, say: Callable[[str], None]) -> None:
        texts = [f.format(t, t) for f in FORMS for t in TOPICS][:REFERENCE]
        kinds = ["chat" if i % CHAT_EVERY == 0 else "text" for i in range(len(texts))]
        self.reference = [
            PinnedPrompt(str(i), k, t, ANSWER) for i, (t, k) in enumerate(zip(texts, kinds, strict=True))
        ]
        self.said: dict[str, Ids] = {}
        margins: dict[str, float] = {}
        say(f"reference answers of {len(texts)} prompts")
        ids = {p.name: model.ids_of(p) for p in self.reference}
        for length in sorted({len(i) for i in ids.values()}):  # of one length: nothing is padded
            names = [n for n, i in ids.items() if len(i) == length]
            rows = torch.tensor([ids[n] for n in names])
            made = model.net.generate(
                rows, attention_mask=torch.ones_like(rows), max_new_tokens=ANSWER, min_new_tokens=ANSWER,
                do_sample=False, output_scores=True, return_dict_in_generate=True, pad_token_id=0,
            )  # fmt: skip
            steps = torch.stack(made.scores, 1).float().log_softmax(-1).topk(2).values
            for name, row, two in zip(names, made.sequences.tolist(), steps, strict=True):
                self.said[name] = row[length:]
                margins[name] = float((two[:, 0] - two[:, 1]).min())
        # Near ties first: what changes any answer mostly changes one of these, and the rest need not be asked.
        self.reference.sort(key=lambda p: margins[p.name])
        self.least_margin = min(margins.values())

    def changes(self, model: Model) -> bool:
        """Whether any greedy answer of the reference set is another one."""
        few, rest = self.reference[:10], self.reference[10:]
        rest = sorted(rest, key=lambda p: (p.kind, len(p.given)))
        for some in [few, *(rest[at : at + 20] for at in range(0, len(rest), 20))]:
            rows = [[*model.ids_of(p), *self.said[p.name][:-1]] for p in some]
            for p, found in zip(some, model.logprobs(rows, [ANSWER] * len(rows)), strict=True):
                if found.isnan().any() or found.argmax(-1).tolist() != self.said[p.name]:
                    return True
        return False


def batches(wanted: Sequence[PinnedPrompt], rng: random.Random) -> Iterable[list[PinnedPrompt]]:
    left = list(wanted)
    rng.shuffle(left)
    while left:
        yield [left.pop() for _ in range(min(len(left), rng.randint(1, 4)))]


# -- damage


def tensor_of(model: Model, words: Sequence[str], rng: random.Random) -> torch.Tensor:
    named = [p for n, p in model.net.named_parameters() if any(w in n for w in words)]
    return rng.choice(named).data


RATES = (0.0, 1e-6, 1e-5, 1e-4, 1e-3)
"""Share of a tensor's values of which one bit is flipped; one value at least."""


def flip(tensor: torch.Tensor, rng: random.Random, seed: int) -> None:
    """Bits of the bfloat16 in which the weights lie on disk."""
    flat = tensor.view(-1)
    count = max(1, round(RATES[seed % len(RATES)] * flat.numel()))
    at = torch.tensor([rng.randrange(flat.numel()) for _ in range(count)])
    bits = torch.tensor([1 << rng.randrange(16) for _ in range(count)], dtype=torch.int32)
    stored = flat[at].to(torch.bfloat16).view(torch.int16).to(torch.int32) & 0xFFFF
    changed = (stored ^ bits) & 0xFFFF
    signed = torch.where(changed > 0x7FFF, changed - 0x10000, changed).to(torch.int16)
    flat[at] = signed.view(torch.bfloat16).to(flat.dtype)


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
    net = model.net
    match kind:
        case "embedding":
            model.head = net.lm_head.weight.data.clone()
            flip(net.model.embed_tokens.weight.data, rng, seed)
        case "attention":
            flip(tensor_of(model, ATTENTION, rng), rng, seed)
        case "mlp":
            flip(tensor_of(model, MLP, rng), rng, seed)
        case "norm":
            flip(tensor_of(model, ("norm",), rng), rng, seed)
        case "head":
            model.head = net.lm_head.weight.data.clone()
            flip(model.head, rng, seed)
        case "swapped-layers":
            a, b = rng.sample(range(len(net.model.layers)), 2)
            layers = net.model.layers
            for (_, x), (_, y) in zip(
                layers[a].named_parameters(), layers[b].named_parameters(), strict=True
            ):
                x.data, y.data = y.data.clone(), x.data.clone()
        case "zeroed-tensor":
            tensor_of(model, (*ATTENTION, *MLP, "norm"), rng).zero_()
        case "other-revision":
            low_rank(tensor_of(model, (*ATTENTION, *MLP), rng), rng, rng.uniform(0.01, 0.2))
        case "rope":
            net.model.rotary_emb.inv_freq = _rope(net, rng.choice([0.1, 0.25, 0.5, 0.8, 1.25, 2, 5, 10]))
        case "template":
            model.template = TEMPLATES[seed % len(TEMPLATES)].replace("NUMBER", str(seed))
        case "quantization":
            bits = rng.choice([(8, 576), (8, 64), (6, 64), (4, 32), (4, 64), (4, 192)])
            for name, p in net.named_parameters():
                if any(w in name for w in (*ATTENTION, *MLP)):
                    _round(p.data, *bits)
        case "nan":
            tensor = tensor_of(model, (*ATTENTION, *MLP, "norm"), rng).view(-1)
            tensor[rng.randrange(tensor.numel())] = rng.choice([math.nan, math.inf])
        case "stale-lora":
            size = rng.uniform(0.005, 0.1)
            for name, p in net.named_parameters():
                if "q_proj" in name or "v_proj" in name:
                    low_rank(p.data, rng, size, rank=4)
        case _:
            raise SystemExit(f"no such kind: {kind}")


def _rope(net: Any, factor: float) -> torch.Tensor:
    config = net.config
    theta = getattr(config, "rope_theta", None) or config.rope_parameters["rope_theta"]
    size = config.hidden_size // config.num_attention_heads
    return 1.0 / ((theta * factor) ** (torch.arange(0, size, 2).float() / size))


def _round(tensor: torch.Tensor, bits: int, group: int) -> None:
    width = tensor.shape[1]
    group = group if width % group == 0 else width
    parts = tensor.float().view(-1, group)
    step = parts.abs().amax(1, keepdim=True) / (2 ** (bits - 1) - 1)
    tensor.copy_((torch.round(parts / step.clamp(min=1e-12)) * step).view(tensor.shape).to(tensor.dtype))


# -- one case


def ask(model: Model, truth: Truth, name: str) -> Deviation:
    known = truth.known[name]
    return compare(known, answers(model, [known.prompt], truth.greedy)[name])


def patrol(
    deviations: Callable[[str], Deviation], truth: Truth, ask_s: float, share: float, rng: random.Random
) -> Any:
    """Seconds of traffic from the damage until the replica is out, by the gateway's own schedule; None: not within a
    minute. The damage comes at any moment of it."""
    standing = rules.TruthStanding(
        turn=rng.randrange(2 * len(truth.prompts)), due_s=rng.uniform(0, ask_s / share)
    )
    now = 0.0
    while now < 60.0:
        name = rules.next_prompt(standing, truth.prompts, now)
        if name is None:
            now = standing.due_s
            continue
        now += ask_s
        standing = rules.heard(standing, deviations(name), truth.prompts, ask_s, share, now)
        if standing.state in ("wrong", "odd"):
            return round(now, 2)
    return None


def case(model: Model, truth: Truth, kind: str, seed: int, ask_s: float, share: float) -> dict[str, Any]:
    seen: dict[str, Deviation] = {}

    def deviation(name: str) -> Deviation:
        if name not in seen:
            seen[name] = ask(model, truth, name)
        return seen[name]

    rng = random.Random(f"{kind}/{seed}/when")
    after_s = patrol(deviation, truth, ask_s, share, rng)
    if sum(d.moved for d in seen.values()) < 2:  # as before traffic: all of them, until two have moved
        for p in truth.prompts:
            if sum(d.moved for d in seen.values()) >= 2:
                break
            deviation(p.name)
    moved = sum(d.moved for d in seen.values())
    changed = truth.changes(model)
    named = kind_of(seen.values())
    return {
        "kind": kind, "seed": seed, "changes": changed, "before_traffic": moved >= 2, "odd": moved == 1,
        "after_s": after_s, "named": named,
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
    config = json.loads((into / "config.json").read_text())
    if order["kind"] == "rope":
        rope = config.get("rope_parameters") or config
        rope["rope_theta"] = rope.get("rope_theta", 10000.0) * random.Random(order["seed"]).choice(
            [0.1, 0.5, 2, 10]
        )
    tensors = {n: p.data.contiguous().clone() for n, p in model.net.named_parameters()}
    if model.head is not None:
        config["tie_word_embeddings"] = False
        tensors["lm_head.weight"] = model.head.contiguous()
    if model.template:
        (into / "chat_template.jinja").write_text(model.template)
    (into / "config.json").write_text(json.dumps(config))
    save_file(tensors, str(into / "model.safetensors"), {"format": "pt"})


def run(order: dict[str, Any]) -> None:
    torch.set_num_threads(order["threads"])
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
        truth = Truth(model, order["sweep"], say)
        if kept is not None:
            kept.write_bytes(pickle.dumps(truth))
    noise = max((k.noise for k in truth.known.values()), key=lambda d: d.worst)
    told = {"truth": len(truth.known), "noise": [noise.mean, noise.worst], "least_margin": truth.least_margin}
    print(json.dumps(told), flush=True)
    if order["healthy"]:
        healthy(model, truth, order["healthy"], order["until_s"])
    saved = {n: t.clone() for n, t in model.net.state_dict().items()}
    rope = model.net.model.rotary_emb.inv_freq.clone()
    for seed in range(order["first"], order["first"] + order["seeds"]):
        for kind in order["kinds"]:
            if [kind, seed] in order["done"]:
                continue
            if order["until_s"] and time.time() > order["until_s"]:
                return
            damage(model, kind, seed)
            print(json.dumps(case(model, truth, kind, seed, order["ask_s"], order["share"])), flush=True)
            with torch.no_grad():
                model.net.load_state_dict(saved)
            model.net.model.rotary_emb.inv_freq = rope.clone()
            model.template, model.head = "", None


def healthy(model: Model, truth: Truth, wanted: int, until_s: float) -> None:
    """Answers of the healthy model in ever other company, and the verdicts that would follow."""
    rng = random.Random(11)
    asked = moved = verdicts = 0
    standing = rules.TruthStanding()
    while asked < wanted and not (until_s and time.time() > until_s):
        for some in batches(truth.prompts, rng):
            found = answers(model, some, truth.greedy, company(rng, truth.vocabulary))
            for name, answer in found.items():
                deviation = compare(truth.known[name], answer)
                asked += 1
                moved += deviation.moved
                if standing.state != "true" or deviation.moved:
                    standing = rules.heard(standing, deviation, truth.prompts, 0.1, 0.01, 0.0)
                if standing.state in ("wrong", "odd"):
                    verdicts += 1
                    standing = rules.TruthStanding()
    print(json.dumps({"healthy": asked, "moved": moved, "verdicts": verdicts}), flush=True)


if __name__ == "__main__":
    run(json.load(sys.stdin))
