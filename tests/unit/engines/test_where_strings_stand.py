"""vLLM's own strings stand in `engines/vllm` only: a new version of vLLM is then a change of one room.

Looked for: metric names, environment variables, flags and the sentences by which a dying engine is known, in string
literals. Prose is free to name them (docstrings, and sentences for people): nothing depends on its letters.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from seawall.engines.vllm import metrics as names
from seawall.engines.vllm.versions import LATEST, find_flag, find_metric

SRC = Path(__file__).parents[3] / "src" / "seawall"
HOME = "engines/vllm/"
METRIC = re.compile(r"\bvllm:[a-z_]+")
VARIABLE = re.compile(r"VLLM_[A-Z0-9_]+")
FLAG = re.compile(r"--[a-z][a-z0-9-]+")
SENTENCES = ("cannot schedule new futures after shutdown", "EngineDeadError", "EngineCore encountered")


def literals(path: Path) -> Iterator[tuple[int, str]]:
    """(line, text) of every string in code that is not a docstring, parts of f-strings and bytes included."""
    tree = ast.parse(path.read_text("utf-8"))
    prose: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            prose |= {id(part) for part in ast.walk(node.value) if isinstance(node.value, ast.Constant)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in prose:
            if isinstance(node.value, str):
                yield node.lineno, node.value
            elif isinstance(node.value, bytes):
                yield node.lineno, node.value.decode("latin-1")


def of_vllm(text: str) -> str | None:
    """The string of vLLM's in `text` on which code depends; None: there is none."""
    if any(s in text for s in SENTENCES):
        return text
    if VARIABLE.fullmatch(text):
        return text
    if FLAG.fullmatch(text) and find_flag(text):
        return text
    prose = len(re.findall(r"[A-Za-z]{2,} [a-z]{2,}", text)) >= 3
    found = METRIC.search(text)
    return found[0] if found and not prose else None


ELSEWHERE = {
    "decide/plan/flags.py": "the core lies below engines; it reads what flags that a user added mean for memory",
    "engines/sim/flags.py": "the simulated engine takes vLLM's flags; its contract tests compare the two",
    "gateway/exchange/judge.py": "the gateway's table of answers",
    "gateway/exchange/seam.py": "reads two flags that a user added",
    "lint/": "rules look at commands that people wrote, for any version",
    "prove/targets/": "command lines of other people's gateways, some of whose options are called like vLLM's",
    "render/refusals.py": "flags that a user may not add",
    "render/replica/engine_probe.py": "runs inside vLLM's container, which has the standard library only",
}
"""Where else such a string may stand, and why. To be shortened."""
OURS = {"--port", "--host", "--model", "--revision", "--override"}
"""Options that our own commands, and those that we run, have too."""


@functools.cache
def outside() -> dict[str, list[tuple[int, str]]]:
    """File -> (line, string) of all that stands outside the room."""
    found: dict[str, list[tuple[int, str]]] = {}
    for path in sorted(SRC.rglob("*.py")):
        name = path.relative_to(SRC).as_posix()
        if name.startswith(
            (HOME, "cli/", "config/plan_flags.py")
        ):  # whose options are ours, named like vLLM's
            continue
        rows = [(line, s) for line, text in literals(path) if (s := of_vllm(text)) and s not in OURS]
        if rows:
            found[name] = rows
    return found


def test_strings_of_vllm_stand_in_its_room_only() -> None:
    strange = {f: rows for f, rows in outside().items() if not f.startswith(tuple(ELSEWHERE))}
    assert not strange, f"put these into {HOME} and name them there: {strange}"


def test_what_may_stand_elsewhere_still_does() -> None:
    gone = [known for known in ELSEWHERE if not any(f.startswith(known) for f in outside())]
    assert not gone, f"nothing of vLLM's stands there any more; take these off the list: {gone}"


BY_KIND = {
    "config/load.py": "vLLM cannot sleep on a CPU, the simulated engine can",
    "engines/vllm/command.py": "the environment of one, the flags of both",
    "render/engine_args.py": "the program to execute",
    "render/images.py": "the image that holds it",
    "render/notes.py": "vLLM's image is pulled from a registry by a tag",
    "render/refusals.py": "flags are checked against vLLM's; the simulated engine runs on one node",
}
"""Where an engine's kind itself is the question. What it needs (weights, a GPU) is asked of the spec."""


def test_what_an_engine_needs_is_not_concluded_from_its_kind() -> None:
    asked = {
        path.relative_to(SRC).as_posix()
        for path in SRC.rglob("*.py")
        if re.search(r"engine\.kind\s*(==|!=|in\b)", path.read_text("utf-8"))
    }
    assert asked == set(BY_KIND), "ask engine.needs_weights or engine.needs_gpu, or say here why not"


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ('x = "vllm:num_requests_running"', "vllm:num_requests_running"),
        ('x = f"sum(vllm:num_requests_running{{{tags}}})"', "vllm:num_requests_running"),
        ('x = env["VLLM_PORT"]', "VLLM_PORT"),
        ('args += ["--max-num-seqs", "8"]', "--max-num-seqs"),
        (
            'x = b"cannot schedule new futures after shutdown" in body',
            "cannot schedule new futures after shutdown",
        ),
        ('"""Reads vllm:num_requests_running."""', None),
        ('say("vLLM takes VLLM_PORT for its own, so leave it out of the Pod")', None),
        ('say("the query asks for vllm:pending, which no engine ever reports to anybody")', None),
        ('args += ["--fix"]', None),
    ],
)
def test_what_counts_as_one(code: str, found: str | None, tmp_path: Path) -> None:
    (tmp_path / "some.py").write_text(code)
    assert next((s for _, text in literals(tmp_path / "some.py") if (s := of_vllm(text))), None) == found


def test_every_metric_we_read_is_one_that_the_latest_vllm_has() -> None:
    ours = {
        v
        for v in vars(names).values()
        if isinstance(v, str) and v.startswith(names.PREFIX) and v != names.PREFIX
    }
    unknown = {m for m in ours if (metric := find_metric(m)) is None or not metric.known_to(LATEST)}
    assert len(ours) > 10 and not unknown


def test_the_probe_in_the_container_reads_the_same_metrics() -> None:
    ours = {v for v in vars(names).values() if isinstance(v, str)}
    here = {s for _, text in literals(SRC / "render/replica/engine_probe.py") if (s := of_vllm(text))}
    metrics = {s for s in here if s.startswith(names.PREFIX)}
    assert metrics and metrics <= ours
