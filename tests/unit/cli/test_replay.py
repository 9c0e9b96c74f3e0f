"""A scaler's log is decided again: the same is 0, anything else is 1 and told."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from seawall.cli.simulate import command
from seawall.decide.scale import DemandSeen, ScalePolicy, ScaleState, decide
from seawall.decide.scale.behavior import DirectionRules
from seawall.decide.scale.policy import DOWN_POLICIES, UP_POLICIES
from seawall.decide.scale.record import DecisionRecord
from seawall.errors import CheckFailed, InputError

EXAMPLE = str(Path(__file__).parents[3] / "examples" / "own-decision.yaml")


def log() -> list[str]:
    policy = ScalePolicy(
        lowest=1, highest=9, target=4.0, kind="slo",
        up=DirectionRules(0, "Max", UP_POLICIES), down=DirectionRules(300, "Max", DOWN_POLICIES),
    )  # fmt: skip
    state: ScaleState = {}
    lines, replicas = [], 1
    for i in range(20):
        seen = DemandSeen(replicas=replicas, ready=replicas, running=float(i), arrivals_per_s=i / 4)
        decision, state = decide(policy, seen, state, 15.0 * i)
        first = policy if i == 0 else None
        lines.append(
            DecisionRecord(
                decision="llm/chat", at_s=15.0 * i, seen=seen, replicas=decision.replicas,
                reason=decision.reason, begins=i == 0, policy=first,
            ).line
        )  # fmt: skip
        replicas = decision.replicas
    return lines


def test_a_log_is_decided_again(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    path.write_text("starting\n" + "\n".join(f"12:00 INFO {line}" for line in log()))
    found = CliRunner().invoke(command, [EXAMPLE, "--replay", str(path)], catch_exceptions=False)
    assert found.exit_code == 0
    assert found.output.endswith("20 decisions, 20 the same.\n")


def test_a_changed_log_fails_and_says_what_comes_out_now(tmp_path: Path) -> None:
    lines = log()
    changed = json.loads(lines[7])
    lines[7] = json.dumps({**changed, "replicas": 8}, separators=(",", ":"))
    path = tmp_path / "decisions.jsonl"
    path.write_text("\n".join(lines))
    found = CliRunner().invoke(command, [EXAMPLE, "--replay", str(path)])
    assert isinstance(found.exception, CheckFailed)
    assert "again  llm/chat" in found.output


def test_a_log_of_others_is_refused_with_the_command_that_saves_one(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    path.write_text("nothing here\n")
    found = CliRunner().invoke(command, [EXAMPLE, "--replay", str(path)])
    assert isinstance(found.exception, InputError)
    assert "kubectl" in str(found.exception)
