"""Is a replica that answers wrongly found, and none that answers rightly? Damage of twelve kinds and more to real
weights, seen with the prompts and the rules of the product.

    python bench/truth.py [--quick] [--json] [--kinds embedding,norm] [--seeds 50] [--dtype float32] [--minutes M]

SmolLM2-135M-Instruct in a plain forward pass (bench/truth_forward.py, by the engine's Python): an engine start per
case would take a minute. Of each case: does any greedy answer to 200 reference prompts change; is it found before
traffic (all prompts asked once, as a start-up probe does, and a replica that comes back); and after how many seconds
of traffic by the gateway's schedule, at an ask of --ask-s and 1% of the replica's time. Damage that changes no answer
is counted apart, not as found. `false_verdicts`: of healthy answers in ever other company of a batch. Aim: 99% of what
changes an answer found in 30 s, no false verdict, at most 1% of CPU.
Needs the engine's environment: `seawall engine install`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seawall.config.load import load_fleet
from seawall.drivers import cache
from seawall.local.engine_env import install
from seawall.local.model import model_folder

HERE = Path(__file__).resolve().parent
SPEC = HERE.parent / "examples" / "smollm2.yaml"
KINDS = (
    "embedding", "attention", "mlp", "norm", "head", "swapped-layers", "zeroed-tensor", "other-revision", "rope",
    "template", "quantization", "nan", "stale-lora",
)  # fmt: skip
SHARE = 0.01
WITHIN_S = 30.0
QUICK_SEEDS, QUICK_HEALTHY = 2, 200


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def rows(order: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What the worker found, line by line."""
    root = cache.root()
    env = install(root, say)
    folder = model_folder(load_fleet(SPEC).spec.model, root, say)
    argv = [str(env.vllm.parent / "python"), str(HERE / "truth_forward.py")]
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    worker = subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | offline
    )
    assert worker.stdin is not None and worker.stdout is not None
    with worker.stdin as stdin:
        stdin.write(json.dumps({**order, "folder": str(folder)}))
    for line in worker.stdout:
        yield json.loads(line)
    if worker.wait():
        raise SystemExit(f"the worker ended with {worker.returncode}")


def in_time(row: dict[str, Any]) -> bool:
    """Out within WITHIN_S of traffic, by the gateway's schedule alone."""
    return row["after_s"] is not None and row["after_s"] <= WITHIN_S


def summary(found: list[dict[str, Any]], ask_s: float) -> dict[str, Any]:
    cases = [r for r in found if "kind" in r]
    changing = [r for r in cases if r["changes"]]
    times = sorted(r["after_s"] for r in changing if r["after_s"] is not None)
    healthy = [r for r in found if "healthy" in r]

    def share(rows: list[Any]) -> float | None:
        return round(sum(map(bool, rows)) / len(rows), 4) if rows else None

    return {
        "kinds": len({r["kind"] for r in cases}),
        "cases": len(cases),
        "changing": len(changing),
        "found_share": share([r["before_traffic"] or in_time(r) for r in changing]),
        "found_in_traffic_share": share([in_time(r) for r in changing]),
        "median_s_to_find": statistics.median(times) if times else None,
        "found_though_no_answer_changes": sum(r["before_traffic"] for r in cases if not r["changes"]),
        "false_verdicts": sum(r["verdicts"] for r in healthy),
        "healthy_moved": sum(r["moved"] for r in healthy),
        "healthy_probes": sum(r["healthy"] for r in healthy),
        "cpu_share": SHARE,
        "ask_s": ask_s,
        "noise": next((r["noise"] for r in found if "noise" in r), None),
    }


def table(found: list[dict[str, Any]]) -> str:
    lines = [f"{'kind':<16}{'cases':>6}{'change':>8}{'before':>8}{'in 30 s':>9}{'median s':>10}   named"]
    cases = [r for r in found if "kind" in r]
    for kind in dict.fromkeys(r["kind"] for r in cases):
        own = [r for r in cases if r["kind"] == kind]
        changing = [r for r in own if r["changes"]]
        times = [r["after_s"] for r in changing if r["after_s"] is not None]
        named = ", ".join(
            f"{k or 'nothing'} {n}" for k, n in Counter(r["named"] for r in changing).most_common()
        )
        median = f"{statistics.median(times):.1f}" if times else ""
        lines.append(
            f"{kind:<16}{len(own):>6}{len(changing):>8}{sum(r['before_traffic'] for r in changing):>8}"
            f"{sum(map(in_time, changing)):>9}{median:>10}   {named}"
        )
    return "\n".join(lines)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--quick", action="store_true", help="few seeds, few healthy answers")
    p.add_argument("--json", action="store_true")
    p.add_argument("--kinds", default=",".join(KINDS))
    p.add_argument("--seeds", type=int, default=50)
    p.add_argument("--first", type=int, default=0, help="the first seed")
    p.add_argument("--healthy", type=int, default=10_000)
    p.add_argument("--sweep", type=int, default=0, help="token ids that sweeps meet; 0: the whole vocabulary")
    p.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    p.add_argument("--ask-s", type=float, default=0.2, help="what an ask takes, seconds")
    p.add_argument("--threads", type=int, default=1, help="more than one only helps on a machine at rest")
    p.add_argument("--minutes", type=float, default=0.0, help="stop after so long with what there is")
    p.add_argument("--rows", type=Path, help="append every case to this file, and count those that are in it")
    a = p.parse_args()
    if a.quick:
        a.seeds, a.healthy = min(a.seeds, QUICK_SEEDS), min(a.healthy, QUICK_HEALTHY)
    found = (
        [json.loads(line) for line in a.rows.read_text().splitlines()] if a.rows and a.rows.exists() else []
    )
    order = {
        "kinds": [k for k in a.kinds.split(",") if k], "seeds": a.seeds, "first": a.first, "healthy": a.healthy,
        "sweep": a.sweep, "dtype": a.dtype, "ask_s": a.ask_s, "share": SHARE, "threads": a.threads,
        "until_s": time.time() + 60 * a.minutes if a.minutes else 0,
        "keep": f"{a.rows}.{a.dtype}.truth" if a.rows else "",
        "healthy_done": sum(r["healthy"] for r in found if "healthy" in r),
        "done": [[r["kind"], r["seed"]] for r in found if "kind" in r],
    }  # fmt: skip
    for row in rows(order):
        found.append(row)
        if a.rows:
            with a.rows.open("a") as file:
                file.write(json.dumps(row) + "\n")
        elif "kind" in row:
            say(json.dumps(row))
    result = summary(found, a.ask_s)
    if a.json:
        print(json.dumps({**result, "rows": found}))
        return
    print(f"{table(found)}\n")
    print("\n".join(f"{name:<32}{value}" for name, value in result.items()))


if __name__ == "__main__":
    main()
