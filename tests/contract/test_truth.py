"""The prompts of a fingerprint, asked of both engines: answered with ids and numbers, and the same when asked again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from seawall.config.load import load_fleet
from seawall.config.planned import planned_fleet
from seawall.decide.truth.fingerprint import (
    Distance,
    Fingerprint,
    Identity,
    KnownAnswer,
    TruthAnswer,
    compare,
    noise_of,
    written,
)
from seawall.decide.truth.prompts import prompts
from seawall.engines.vllm.truth import answer_of, ask_of
from seawall.render.inputs import Wanted
from seawall.render.replica.probe_config import config_map

EXAMPLE = Path(__file__).parents[2] / "examples/llama-70b-4xh100.yaml"


def _asked(server, prompt, salt: str) -> TruthAnswer:
    path, body = ask_of(prompt, server.model, salt)
    answer = server.ask("POST", path, body)
    assert answer.status == 200, answer.body
    return answer_of(answer.json)


@pytest.mark.parametrize("prompt", [*prompts()[:4], prompts(280, 40)[-1]], ids=lambda p: p.name)
def test_a_prompt_is_answered_with_ids_and_logprobs_and_the_same_again(server, prompt) -> None:
    first = _asked(server, prompt, "one")

    assert len(first.prompt_ids) > 5
    assert len(first.ids) == len(first.top) == prompt.tokens
    assert all(token in step for token, step in zip(first.ids, first.top, strict=True))
    assert all(-60 < v <= 1e-4 for step in first.top for v in step.values())

    again = _asked(server, prompt, "two")
    move = compare(KnownAnswer(prompt, first, noise_of([first, again])), again)
    assert not move.moved, str(move)


def _probed(server, folder: Path, known: list[KnownAnswer]) -> subprocess.CompletedProcess[str]:
    """The start-up probe as a Pod runs it: from the rendered ConfigMap's files alone."""
    fleet = load_fleet(EXAMPLE)
    made = planned_fleet(fleet)
    text = json.dumps(written([Fingerprint(Identity(), "a test", tuple(known))]))
    wanted = Wanted(fleet=fleet, plan=made.plan, document=made.document, truth=text)
    for name, content in config_map(wanted)["data"].items():
        (folder / name).write_text(content)
    env = {
        "PATH": os.environ["PATH"], "SEAWALL_ENGINE_URL": f"http://127.0.0.1:{server.port}",
        "SEAWALL_STATE_DIR": str(folder), "SEAWALL_ENGINE_BOOT": "1", "SEAWALL_MODEL": server.model,
    }  # fmt: skip
    argv = [sys.executable, "-E", "-S", str(folder / "probe.py"), "startup"]
    return subprocess.run(argv, env=env, capture_output=True, text=True, timeout=120)


def test_a_pod_that_answers_wrongly_never_becomes_ready(server, tmp_path: Path) -> None:
    answers = [(p, _asked(server, p, "known")) for p in prompts()]
    known = [KnownAnswer(p, a, Distance(0.01, 0.05)) for p, a in answers]
    right = _probed(server, tmp_path, known)
    assert (right.returncode, right.stdout, right.stderr) == (0, "", "")

    def other(one: KnownAnswer) -> KnownAnswer:
        top = tuple({t: v - 1.0 for t, v in step.items()} for step in one.answer.top)
        return replace(one, answer=replace(one.answer, top=top))

    wrong = _probed(server, tmp_path, [other(k) for k in known])
    assert (wrong.returncode, wrong.stderr) == (1, "")
    assert "it answers wrongly" in wrong.stdout and len(wrong.stdout.splitlines()) == 1


def test_a_pod_with_one_damaged_row_never_becomes_ready(server, tmp_path: Path) -> None:
    """The texts are as known; one sweep, whose tokens no text has, moves each time that it is asked."""
    wanted = [*prompts()[:2], *[p for p in prompts(280, 192) if p.kind == "ids"]]
    known = [KnownAnswer(p, _asked(server, p, "known"), Distance(0.01, 0.05)) for p in wanted]
    assert _probed(server, tmp_path, known).stdout == ""

    last = known[-1]
    top = tuple({t: v - 1.0 for t, v in step.items()} for step in last.answer.top)
    damaged = _probed(server, tmp_path, [*known[:-1], replace(last, answer=replace(last.answer, top=top))])
    assert damaged.returncode == 1
    assert "its weights are damaged" in damaged.stdout and last.prompt.name in damaged.stdout
