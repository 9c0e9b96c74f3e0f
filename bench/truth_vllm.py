"""The damage of bench/truth.py on real vLLM: each case is a folder of weights and an engine started from it.

    python bench/truth_vllm.py [--cases 24] [--rows FILE] [--json]

First the whole weights: their fingerprint, as `seawall fingerprint` makes it. Then of each case all prompts are asked,
as before a replica is given traffic, and once more beside other work. A start takes about a minute on a CPU; with
--rows cases that were played before are counted and not played again.
Needs the engine's environment: `seawall engine install`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2

from seawall.config.load import load_fleet
from seawall.decide.truth.fingerprint import Deviation, Fingerprint, compare, kind_of, read, written
from seawall.decide.truth.prompts import prompts
from seawall.drivers import cache
from seawall.engines.vllm.truth import answer_of, ask_of, is_no_number
from seawall.errors import SeawallError
from seawall.local.engine_env import install
from seawall.local.fingerprint import NoiseMeasure, engine, fingerprint_of
from seawall.local.launch import ReplicaRecipe
from seawall.local.prepare import Wish, recipe_of
from seawall.weights.truth_file import identity_of

HERE = Path(__file__).resolve().parent
SPEC = HERE.parent / "examples" / "smollm2.yaml"
KINDS = (
    "mlp", "template", "nan", "attention", "rope", "quantization", "swapped-layers", "norm", "zeroed-tensor",
    "embedding", "stale-lora", "other-revision", "head",
)  # fmt: skip
VOCABULARY, SWEPT = 49152, 2048
"""Not the whole vocabulary: a thousand more asks would take minutes of each start here."""
FIRST_SEED = 2
"""From it on a flipped bit has company (a hundred-thousandth of a tensor), so that rows among SWEPT are met."""
STARTUP_S = 400.0


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def damaged(root: Path, whole: Path, into: Path, kind: str, seed: int) -> None:
    """A copy of the weights with this damage, made by the engine's own Python."""
    order = {"folder": str(whole), "save": str(into), "kind": kind, "seed": seed, "threads": 2}
    argv = [str(install(root, say).vllm.parent / "python"), str(HERE / "truth_forward.py")]
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    subprocess.run(argv, input=json.dumps(order), text=True, check=True, env=os.environ | offline)


async def asked(url: str, model: str, known: Fingerprint, beside: int) -> list[Deviation]:
    """How all its answers are away from the known ones."""
    async with httpx2.AsyncClient(base_url=url, trust_env=False, timeout=300) as client:
        places = asyncio.Semaphore(1 + beside)

        async def one(k: Any) -> Deviation | None:
            path, body = ask_of(k.prompt, model, os.urandom(9).hex())
            async with places:
                answer = await client.post(path, json=body)
            if is_no_number(answer.status_code, answer.text):
                return Deviation(k.prompt.name, k.prompt.kind, "absurd")
            return compare(k, answer_of(answer.json())) if answer.status_code == 200 else None

        found = []
        for rows in (False, True):  # rows by themselves: vLLM 0.32 mixes them up with others' logprobs
            part = [k for k in known.known if (k.prompt.kind == "rows") == rows]
            found += await asyncio.gather(*(one(k) for k in part))
        return [d for d in found if d is not None]


async def truth_of(recipe: ReplicaRecipe, log: Path) -> Fingerprint:
    fleet = recipe.fleet
    async with engine(recipe, log, STARTUP_S) as url:
        wanted = prompts(VOCABULARY, SWEPT)
        learned = await fingerprint_of(
            [url],
            fleet.served_names[0],
            wanted,
            identity_of(fleet),
            "verified weights",
            NoiseMeasure(4, 4),
            say,
        )
    assert learned.fingerprint is not None
    return learned.fingerprint


async def case(recipe: ReplicaRecipe, known: Fingerprint, kind: str, seed: int, log: Path) -> dict[str, Any]:
    began = time.monotonic()
    row: dict[str, Any] = {"kind": kind, "seed": seed}
    try:
        async with engine(recipe, log, STARTUP_S) as url:
            row["started_s"] = round(time.monotonic() - began, 1)
            for name, beside in (("alone", 0), ("beside", 4)):
                seen = await asked(url, recipe.fleet.served_names[0], known, beside)
                row[name] = {"asked": len(seen), "moved": sum(d.moved for d in seen), "named": kind_of(seen)}
                row[name]["evidence"] = [str(d) for d in seen if d.moved][:2]
                row[name]["by"] = dict(Counter(d.kind for d in seen if d.moved))
    except SeawallError as e:
        row["refused"] = str(e)[:200]
    return row


async def play(a: argparse.Namespace) -> list[dict[str, Any]]:
    root = cache.root()
    fleet = load_fleet(SPEC)
    recipe = recipe_of(fleet, Wish(specs=(), fleets=(fleet,), state_dir=Path(), cache=root), say)
    whole = Path(recipe.model)
    rows = (
        [json.loads(line) for line in a.rows.read_text().splitlines()] if a.rows and a.rows.exists() else []
    )

    def keep(row: dict[str, Any]) -> None:
        rows.append(row)
        say(json.dumps(row)[:400])
        if a.rows:
            with a.rows.open("a") as file:
                file.write(json.dumps(row) + "\n")

    with tempfile.TemporaryDirectory(prefix="seawall-truth-") as temporary:
        log = Path(temporary) / "engine.log"
        known = next((read(r["truth"])[0] for r in rows if "truth" in r), None)
        if known is None:
            known = await truth_of(recipe, log)
            keep({"truth": written([known])})
        wanted = [(KINDS[n % len(KINDS)], FIRST_SEED + n // len(KINDS)) for n in range(a.cases)]
        for kind, seed in [("none", 0), *wanted]:
            if any((r.get("kind"), r.get("seed")) == (kind, seed) for r in rows):
                continue
            folder = whole
            if kind != "none":
                folder = Path(temporary) / f"{kind}-{seed}"
                damaged(root, whole, folder, kind, seed)
            keep(await case(replace(recipe, model=str(folder)), known, kind, seed, log))
    return [r for r in rows if "kind" in r]


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--cases", type=int, default=24)
    p.add_argument("--rows", type=Path)
    p.add_argument("--json", action="store_true")
    a = p.parse_args()
    rows = asyncio.run(play(a))
    if a.json:
        print(json.dumps(rows))
        return
    for r in rows:
        said = r.get("alone", {}), r.get("beside", {})
        seen = "   ".join(
            f"{s.get('moved')} of {s.get('asked')} moved, {s.get('named') or 'nothing'}" for s in said
        )
        print(f"{r['kind']:<16}{r['seed']:>3}   {r.get('refused') or seen}")


if __name__ == "__main__":
    main()
