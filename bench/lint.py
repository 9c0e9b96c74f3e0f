"""`seawall lint`: how often it is right over a judged corpus, and how fast it is as a process.

Right: tests/corpus/lint holds manifests of our own, shaped like public ones over every kind that is read, and
tests/corpus/lint_judged.yaml what is right to say of each. The rules were written with this corpus in sight: the
figures show what a change breaks, not what strangers' manifests will bring.

Fast: over everything we render, a manifest full of faults, and files of 180 and 900 objects. The bounds in the same
run: an empty Python process, and PyYAML's own C loader over the same text.

    python bench/lint.py [--quick] [--json] [--judged]
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

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


STOPS = re.compile(
    r"command/|values/|fit/|devices/|network/service-links|storage/path-not-mounted"
    r"|engine/(removed-flag|unknown-flag|flag-too-new|model-too-new|parallel-exceeds-gpus|no-gpu|no-shm)"
    r"|storage/file-not-mounted|probes/(startup-budget|no-startup)"
)
"""Rules whose errors say that the engine will not start."""


def judged() -> dict[str, object]:
    """Precision (all findings, errors, errors that say it will not start) and recall (causes) over the corpus."""
    from seawall.cli.lint import _model
    from seawall.lint.run import Options, lint

    corpus = ROOT / "tests/corpus"
    right = yaml.safe_load((corpus / "lint_judged.yaml").read_text("utf-8"))
    counts = {"all": [0, 0], "errors": [0, 0], "will not start": [0, 0], "causes found": [0, 0]}
    wrong: list[str] = []
    for name, verdict in right.items():
        found = lint([str(corpus / "lint" / f"{name}.yaml")], Options(models=_model)).findings
        for f in found:
            good = f.rule in verdict.get(f.severity, ())
            error = f.severity == "error"
            for key, counted in (
                ("all", True),
                ("errors", error),
                ("will not start", error and STOPS.match(f.rule)),
            ):
                if counted:
                    counts[key][0] += good
                    counts[key][1] += 1
            if not good:
                wrong.append(f"{name}: {f.severity} {f.rule} is a false alarm")
        said = {f.rule for f in found}
        for cause in (*verdict.get("causes", ()), *verdict.get("missed", ())):
            counts["causes found"][0] += cause in said
            counts["causes found"][1] += 1
            if cause not in said:
                wrong.append(f"{name}: {cause} is not found")
    return {"manifests": len(right), "counts": counts, "wrong": wrong}


def show_judged(result: dict[str, Any]) -> None:
    print(f"over {result['manifests']} judged manifests")
    for name, (good, total) in result["counts"].items():
        label = f"{name}" if name == "causes found" else f"precision, {name}"
        print(f"  {label:26} {good:4} of {total:4}  {100 * good / max(1, total):5.1f}%")
    for line in result["wrong"]:
        print(f"  {line}")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--judged", action="store_true", help="precision and recall only")
    args = parser.parse_args()
    result = judged()
    if args.judged:
        print(json.dumps(result, indent=2)) if args.json else show_judged(result)
        return 0
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
        print(json.dumps({"judged": result, "times": rows}, indent=2))
    else:
        show_judged(result)
        print(
            f"wall / CPU seconds, bound {BOUND_S} s\n{'file':18} {'kB':>5} {'lint':>13} {'python':>13} {'PyYAML':>13}"
        )
        for r in rows:
            times_of = (f"{r[n + '_s']:6.3f}/{r[n + '_cpu_s']:6.3f}" for n in ("lint", "python", "pyyaml"))
            print(f"{r['file']:18} {r['kb']:5} {' '.join(times_of)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
