"""How many requests per second the simulator simulates, how that grows, and beside vLLM's own fleet simulator.

    python bench/simulate.py [--quick] [--json]

The peer is PyPI's `vllm-sr-sim` (coarser: no token budget, no KV blocks, no autoscaler), run in the same minutes
on the same number of GPUs, requests, rate and lengths, in a virtual environment under the cache folder. Every run
is a process of its own; CPU seconds count, which a busy neighbour disturbs least. Without the peer (no package
index in reach) its ratio is null.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

PEER = "vllm-sr-sim==0.1.0.dev20260713123629"
RATE_PER_REPLICA = 6.0
PROMPT, OUTPUT = 1024, 256

PEER_CODE = """
import json, resource, sys, time
import numpy as np
from fleet_sim import Fleet, FleetConfig, PoolConfig, Request, H100_80GB
count, replicas, rate, prompt, output = json.loads(sys.argv[1])
rng = np.random.default_rng(1)
at = np.cumsum(rng.exponential(1 / rate, count))
def lengths(mean):
    s2 = np.log(2.0)
    return np.clip(np.rint(rng.lognormal(np.log(mean) - s2 / 2, s2 ** 0.5, count)), 1, 3500).astype(int)
p, o = lengths(prompt), lengths(output)
work = [(float(t), Request(i, float(t), int(a), int(b))) for i, (t, a, b) in enumerate(zip(at, p, o))]
fleet = Fleet(FleetConfig(pools=[PoolConfig("all", H100_80GB, replicas, 8192)], router_type="LengthRouter"))
start = time.process_time()
fleet.run(work)
spent = time.process_time() - start
print(json.dumps({"cpu_s": spent, "requests_per_s": count / spent,
                  "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
"""


def ours(count: int, replicas: int) -> dict[str, float]:
    """One run of our simulator in this process."""
    import numpy as np

    from seawall.domain.action import Plan, StartupBudget, Timing
    from seawall.domain.spec import Fleet, FleetSpec, Metadata, Model, Scaling
    from seawall.sim.setup import setup_of
    from seawall.sim.world import simulate
    from seawall.workload.arrivals import RatePhase, synthetic

    fleet = Fleet(
        metadata=Metadata(name="bench"),
        spec=FleetSpec(model=Model(source="hf://a/b"), scaling=Scaling(min=replicas, max=replicas)),
    )
    timing = Timing(
        base_s=0.004, prefill_token_s=4e-5, decode_seq_s=3e-5, weight_read_s=0.012, kv_token_s=3e-8
    )
    plan = Plan(
        fleet="bench",
        model="8B",
        fits=True,
        reason="",
        gpu="H100-80GB",
        gpus_per_replica=1,
        tensor_parallel=1,
        kv_cache_tokens=400_000,
        max_num_seqs=256,
        timing=timing,
        startup=StartupBudget(image_s=60, weights_s=60, load_s=60, total_s=270),
    )
    rate = RATE_PER_REPLICA * replicas
    work = synthetic([RatePhase(rate, count / rate)], np.random.default_rng(1), PROMPT, OUTPUT)
    start = time.process_time()
    found = simulate(setup_of(fleet, plan, recipe="keda"), work)
    spent = time.process_time() - start
    assert found.counts.done == len(work)
    return {
        "requests": len(work),
        "replicas": replicas,
        "cpu_s": spent,
        "requests_per_s": len(work) / spent,
        "events_per_s": found.events / spent,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def in_a_process(count: int, replicas: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--one", str(count), str(replicas)]
    found: dict[str, float] = json.loads(subprocess.check_output(command))
    return found


def peer(count: int, replicas: int) -> dict[str, float] | None:
    """One run of vllm-sr-sim, installed first if need be; None when it cannot be had."""
    cache = Path(os.environ.get("SEAWALL_CACHE") or Path.home() / ".cache" / "seawall")
    venv = cache / "bench" / "vllm-sr-sim"
    python = venv / "bin" / "python"
    uv = Path(sys.executable).with_name("uv")
    try:
        if not (venv / "ready").exists():
            for command in (
                [uv, "venv", "-q", "--clear", "--python", sys.executable, venv],
                [uv, "pip", "install", "-q", "--python", python, "--prerelease", "allow", PEER],
            ):
                subprocess.run([str(part) for part in command], check=True, timeout=180)
            (venv / "ready").touch()
        rate = RATE_PER_REPLICA * replicas
        argument = json.dumps([count, replicas, rate, PROMPT, OUTPUT])
        out = subprocess.check_output([str(python), "-c", PEER_CODE, argument], timeout=900)
    except (OSError, subprocess.SubprocessError) as e:
        print(f"the peer cannot be run: {e}", file=sys.stderr)
        return None
    found: dict[str, float] = json.loads(out.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="smaller runs, under a minute")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", nargs=2, type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(ours(*options.one)))
        return
    sizes = (
        [(200_000, 200), (200_000, 2000)]
        if options.quick
        else [(100_000, 20), (1_000_000, 200), (1_000_000, 2000), (10_000_000, 2000)]
    )
    peer_count = 10_000 if options.quick else 100_000
    rows = [in_a_process(count, replicas) for count, replicas in sizes]
    other = peer(peer_count, 200)
    same = in_a_process(peer_count, 200) if other else None
    ratio = same["requests_per_s"] / other["requests_per_s"] if same and other else None
    main_row = next(row for row in rows if row["replicas"] == 200)
    answer = {
        "requests_per_s": main_row["requests_per_s"],
        "events_per_s": main_row["events_per_s"],
        "peak_rss_mb": max(row["peak_rss_mb"] for row in rows),
        "ratio_vs_vllm_sr_sim": ratio,
        "rows": rows,
        "peer": other,
        "quick": options.quick,
    }
    if options.json:
        print(json.dumps(answer, indent=2))
        return
    print(f"{'':24}{'requests':>12}{'replicas':>10}{'CPU s':>9}{'requests/s':>12}{'events/s':>11}{'MB':>7}")
    for row in rows:
        print(
            f"{'seawall simulate':24}{row['requests']:>12,.0f}{row['replicas']:>10,.0f}{row['cpu_s']:>9.1f}"
            f"{row['requests_per_s']:>12,.0f}{row['events_per_s']:>11,.0f}{row['peak_rss_mb']:>7.0f}"
        )
    if other and same:
        print(
            f"{'vllm-sr-sim':24}{peer_count:>12,}{200:>10}{other['cpu_s']:>9.1f}{other['requests_per_s']:>12,.0f}"
            f"{'':>11}{other['peak_rss_mb']:>7.0f}"
        )
        print(f"\nratio on the same {peer_count:,} requests and 200 replicas: {ratio:.1f} x")


if __name__ == "__main__":
    main()
