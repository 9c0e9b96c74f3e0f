"""`seawall lint` as a process, over everything we render, a manifest full of faults, and files of 180 and 900 objects.

The bounds in the same run: an empty Python process, and PyYAML's own C loader over the same text.

    python bench/lint.py [--quick] [--json]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BOUND_S = 1.0


def timed(args: list[str], times: int) -> tuple[float, float]:
    """The best wall and the best CPU time of a process, in seconds. Beside other work only CPU means something."""
    walls, cpus = [], []
    for _ in range(times):
        begun, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(args, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        walls.append(time.perf_counter() - begun)
        cpus.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(walls), min(cpus)


def copies(good: Path, to: Path, count: int) -> None:
    """`count` fleets of nine objects each, under names of their own."""
    text = good.read_text("utf-8")
    parts = (text.replace("chat", f"chat-{i}").replace("weights", f"weights-{i}") for i in range(count))
    to.write_text("---\n".join(parts), "utf-8")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    times = 3 if args.quick else 7
    seawall = [sys.executable, "-m", "seawall"]
    data = ROOT / "tests/unit/lint/data"
    with tempfile.TemporaryDirectory() as folder:
        rendered = Path(folder) / "two-models.yaml"
        rendered.write_bytes(
            subprocess.run(
                [*seawall, "render", str(ROOT / "examples/two-models.yaml")], capture_output=True, check=True
            ).stdout
        )
        many, crowd = Path(folder) / "many.yaml", Path(folder) / "crowd.yaml"
        copies(data / "good.yaml", many, 20)
        copies(data / "good.yaml", crowd, 100)
        load = "import sys, yaml; list(yaml.load_all(open(sys.argv[1]), yaml.CSafeLoader))"
        python = timed([sys.executable, "-c", "pass"], times)
        rows = []
        for path in (data / "popular.yaml", rendered, many, crowd):
            lint = timed([*seawall, "lint", str(path)], times)
            peer = timed([sys.executable, "-c", load, str(path)], times)
            row: dict[str, object] = {"file": path.name, "kb": round(path.stat().st_size / 1000)}
            for name, (wall, cpu) in (("lint", lint), ("python", python), ("pyyaml", peer)):
                row |= {f"{name}_s": round(wall, 3), f"{name}_cpu_s": round(cpu, 3)}
            rows.append(row)
    if args.json:
        print(json.dumps(rows, indent=2))
    else:
        print(
            f"wall / CPU seconds, bound {BOUND_S} s\n{'file':18} {'kB':>5} {'lint':>13} {'python':>13} {'PyYAML':>13}"
        )
        for r in rows:
            times_of = (f"{r[n + '_s']:6.3f}/{r[n + '_cpu_s']:6.3f}" for n in ("lint", "python", "pyyaml"))
            print(f"{r['file']:18} {r['kb']:5} {' '.join(times_of)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
