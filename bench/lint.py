"""`seawall lint` as a process, over everything we render, a manifest full of faults, and a file of 180 objects.

The bounds in the same run: an empty Python process, and PyYAML's own C loader over the same text.

    python bench/lint.py [--quick] [--json]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BOUND_S = 1.0


def timed(args: list[str], times: int) -> float:
    """The best wall time of a process, in seconds."""
    best = float("inf")
    for _ in range(times):
        begun = time.perf_counter()
        subprocess.run(args, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        best = min(best, time.perf_counter() - begun)
    return best


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
        good = (data / "good.yaml").read_text("utf-8")
        many = Path(folder) / "many.yaml"
        many.write_text(
            "---\n".join(
                good.replace("chat", f"chat-{i}").replace("weights", f"weights-{i}") for i in range(20)
            ),
            "utf-8",
        )
        load = "import sys, yaml; list(yaml.load_all(open(sys.argv[1]), yaml.CSafeLoader))"
        rows = []
        for path in (data / "popular.yaml", rendered, many):
            rows.append(
                {
                    "file": path.name,
                    "kb": round(path.stat().st_size / 1000),
                    "lint_s": round(timed([*seawall, "lint", str(path)], times), 3),
                    "python_s": round(timed([sys.executable, "-c", "pass"], times), 3),
                    "pyyaml_s": round(timed([sys.executable, "-c", load, str(path)], times), 3),
                }
            )
    if args.json:
        print(json.dumps(rows, indent=2))
    else:
        print(f"{'file':18} {'kB':>5} {'lint':>7} {'python':>7} {'PyYAML':>7}   bound {BOUND_S} s")
        for r in rows:
            print(f"{r['file']:18} {r['kb']:5} {r['lint_s']:7.3f} {r['python_s']:7.3f} {r['pyyaml_s']:7.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
