"""Runs autoscaler test vectors (JSON) against `seawall.decide.scale`: python -m seawall.testing.vectors FILE...

Why: "to the letter" is a claim, and upstream's own test tables, transcribed to JSON, are its judge. Each case
names a function by its `kind` (or by its keys, in files with one table) and gives `given`, `expect` and, for
KEDA, `derived`; every listed key must be equal. Prints what failed, then `N passed, M failed`; exit 1 on failures.
Times are seconds with now = 0; keys ending in `_m` are milli-units.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from seawall.testing import vectors_hpa, vectors_keda

Json = dict[str, Any]
VectorRunner = Callable[[Json], Json]

KINDS: dict[str, VectorRunner] = {**vectors_hpa.KINDS, **vectors_keda.KINDS}
CONDITIONS = ("ready", "active", "hpa_active", "event")

# Files that hold one table carry no `kind`: the keys of `given` tell which.
BY_KEY = {
    "metric_source": "replicas",
    "scale_up_limit_factor": "convert_legacy",
    "directions": "scale_events",
    "direction": "limits",
    "configurable_tolerance_enabled": "tolerance",
    "scale_up": "rate_policies",
}


def kind_of(case: Json) -> str:
    """The case's function: its `kind`, else what its keys tell, else empty."""
    if case.get("kind"):
        return str(case["kind"])
    return next((kind for key, kind in BY_KEY.items() if key in case.get("given", {})), "")


def differences(expected: Json, found: Json, note: str = "") -> list[str]:
    """One line per key that is not as expected. `X_not`: X must differ; conditions compare the listed sub-keys."""
    wrong = []
    for key, want in expected.items():
        if key == "error_contains":
            continue
        negated = key.endswith("_not") and key.removesuffix("_not") in found
        got = found.get(key.removesuffix("_not") if negated else key, "(nothing)")
        if key in CONDITIONS and isinstance(want, dict) and isinstance(got, dict):
            got = {k: got.get(k) for k in want}
        if (got == want) == negated:
            wrong.append(f"{key}{note}: expected {'other than ' if negated else ''}{want!r}, found {got!r}")
    return wrong


def run_case(case: Any) -> list[str]:
    """The case's differences; empty when it passes. A case that cannot be run, or expects nothing, has not passed."""
    if not isinstance(case, dict):
        return [f"is not an object but {type(case).__name__}"]
    parts = {key: case.get(key) for key in ("given", "expect", "derived")}
    wrong = [
        f"{key} is not an object but {type(part).__name__}"
        for key, part in parts.items()
        if not isinstance(part, dict) and (key == "given" or part is not None)
    ]
    if wrong:
        return wrong
    if not parts["expect"] and not parts["derived"]:
        return ["expects nothing"]
    kind = kind_of(case)
    if kind not in KINDS:
        return [f"unknown function {kind!r}; known: {', '.join(sorted(KINDS))}"]
    try:
        found = KINDS[kind](case["given"])
    except KeyError as e:
        return [f"{kind}: the key {e} is missing"]
    except Exception as e:  # one broken case must not hide the others
        return [f"{kind} raised {type(e).__name__}: {e}"]
    return differences(parts["expect"] or {}, found) + differences(
        parts["derived"] or {}, found, " (derived)"
    )


def run_file(path: Path) -> Iterable[tuple[str, list[str]]]:
    """(case name, differences) per case; a file that cannot be read is one failing case."""
    try:
        whole = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as e:
        yield "(file)", [f"cannot be read as JSON: {type(e).__name__}: {e}"]
        return
    cases = whole.get("cases") if isinstance(whole, dict) else None
    if not isinstance(cases, list) or not cases:
        yield "(file)", ["is not a file of test vectors: it has no list of cases"]
        return
    for i, case in enumerate(cases):
        yield str(case.get("name", i)) if isinstance(case, dict) else str(i), run_case(case)


def main(arguments: list[str]) -> int:
    """Run the files; 0 when everything passed, 1 on a failure, 2 without files."""
    if not arguments:
        print("usage: python -m seawall.testing.vectors FILE...", file=sys.stderr)
        return 2
    passed = failed = 0
    for argument in arguments:
        path = Path(argument)
        for name, wrong in run_file(path):
            if wrong:
                failed += 1
                print(f"FAILED {path.name}::{name}")
                print("".join(f"  {line}\n" for line in wrong), end="")
            else:
                passed += 1
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
