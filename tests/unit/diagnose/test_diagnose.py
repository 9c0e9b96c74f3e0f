"""Ranking, folding, recorded files, a machine's own state, and odd facts that must break nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from seawall.cli.diagnose import command
from seawall.diagnose.facts import LISTS, Facts, parse_facts
from seawall.diagnose.run import as_text, diagnose
from seawall.engines.vllm.signs import SIGNS, read
from seawall.errors import InputError


def crashed(name: str) -> dict[str, Any]:
    return {
        "kind": "Pod", "metadata": {"name": name}, "spec": {"nodeName": "n", "containers": [{"name": "vllm"}]},
        "status": {"phase": "Running", "containerStatuses": [
            {"name": "vllm", "restartCount": 3, "lastState": {"terminated": {"exitCode": 1, "reason": "Error"}}}]},
    }  # fmt: skip


LOG = "huggingface_hub.errors.HfHubHTTPError: 429 Client Error: Too Many Requests for url: https://x?token=abc123secret"


def recorded(pods: int) -> dict[str, Any]:
    names = [f"chat-{i}" for i in range(pods)]
    return {"taken_at": "2026-11-23T14:10:00Z", "pods": [crashed(n) for n in names],
            "logs": {f"{n}/vllm/previous": LOG for n in names}, "newer_key": 1}  # fmt: skip


def test_the_same_cause_of_many_pods_is_told_once() -> None:
    facts = parse_facts(json.dumps(recorded(12)))
    causes = diagnose(facts)
    assert len(causes) == 1
    assert len(causes[0].also) == 11
    text = as_text(causes, facts)
    assert text.startswith("1  (certain)  Pod/chat-0 (and 11 more): the hub limits the rate (429)")
    assert "do         download once" in text


def test_secrets_in_logs_are_not_repeated() -> None:
    assert "abc123secret" not in as_text(diagnose(parse_facts(json.dumps(recorded(1)))), Facts())


def test_surer_causes_come_first() -> None:
    data = recorded(1)
    data["metrics"] = {"vllm:num_requests_running": {"p": 1}, "vllm:generation_tokens_total": {"p": 5}}
    data["metrics_before"] = {"vllm:generation_tokens_total": {"p": 5}}
    data["gateway"] = {"replicas": {"p": {"state": "evicted", "reason": "3 asks for one token unanswered"}}}
    assert [c.certainty for c in diagnose(parse_facts(json.dumps(data)))] == ["certain", "likely"]


def test_the_command_reads_a_recording(tmp_path: Path) -> None:
    path = tmp_path / "facts.json"
    path.write_text(json.dumps(recorded(2)))
    result = CliRunner().invoke(command, ["--facts", str(path)])
    assert result.exit_code == 1
    assert "429" in result.output
    body = json.loads(CliRunner().invoke(command, ["--facts", str(path), "--json"]).output)
    assert body["causes"][0]["id"] == "weights/rate-limited"
    piped = CliRunner().invoke(command, ["--facts", "-"], input=json.dumps({"pods": {"items": []}}))
    assert (piped.exit_code, piped.output) == (0, "no cause found in 0 Pods, 0 events, 0 logs.\n")


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"pods": 3}', '{"pods": [1]}', '{"logs": []}', "[" * 100_000]
)
def test_a_recording_of_another_shape_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_facts(text)


def test_a_machine_of_its_own(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "a-0.log").write_text("x\nvllm: error: unrecognized arguments: --disable-log-requests\n")
    state = {
        "gateway": {"url": "http://127.0.0.1:8000"},
        "fleets": [{"name": "a", "queued": 0}],
        "replicas": [
            {"name": "a-0", "fleet": "a", "phase": "failed", "failures": 4, "reason": "exited with code 2: x",
             "log": str(logs / "a-0.log"), "routed": None},
            {"name": "a-1", "fleet": "a", "phase": "ready", "running": 1, "log": "/etc/passwd", "routed": "ready"},
        ],
    }  # fmt: skip
    (tmp_path / "state.json").write_text(json.dumps(state))
    result = CliRunner().invoke(command, ["--state-dir", str(tmp_path)])
    assert result.exit_code == 1
    assert "--disable-log-requests" in result.output
    assert "root:" not in result.output
    state["replicas"].pop()
    (tmp_path / "state.json").write_text(json.dumps(state))
    result = CliRunner().invoke(command, ["--state-dir", str(tmp_path)])
    assert "(a-0 failed)" in result.output, "the gateway has not heard of it; its supervisor tells why"
    missing = CliRunner().invoke(command, ["--state-dir", str(tmp_path / "no")])
    assert isinstance(missing.exception, InputError)


def test_every_sign_formats_whatever_matched() -> None:
    for sign in SIGNS:
        groups = dict.fromkeys(__import__("re").compile(sign.pattern).groupindex, "")
        assert sign.what.format(**groups)
    assert read("all is well") is None


_KEYS = st.sampled_from(
    [
        *(
            "metadata",
            "name",
            "spec",
            "status",
            "conditions",
            "containers",
            "containerStatuses",
            "type",
            "phase",
        ),
        *(
            "reason",
            "message",
            "taints",
            "key",
            "value",
            "labels",
            "selector",
            "matchLabels",
            "state",
            "lastState",
        ),
        *("terminated", "involvedObject", "kind"),
    ]
)
_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 500)
    | st.sampled_from(["Pending", "False", "2026-11-23T14:00:00Z", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=5),
    max_leaves=20,
)
_OBJECTS = st.lists(st.dictionaries(_KEYS, _JSON, max_size=6), max_size=3)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(LISTS), _OBJECTS, max_size=6))
def test_odd_objects_break_no_rule(data: dict[str, Any]) -> None:
    facts = parse_facts(json.dumps(data))
    as_text(diagnose(facts), facts)
