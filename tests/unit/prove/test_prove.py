"""What makes a verdict, what is switched off for one, and the page that shows it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from seawall.domain.switches import BATCH, GATEWAY, LOCAL
from seawall.errors import InputError
from seawall.gateway.intake.peek import LONG
from seawall.load.client import RequestOutcome
from seawall.prove import settings
from seawall.prove.cases import Case, check
from seawall.prove.mechanisms import MECHANISMS, off
from seawall.prove.pressure import StreamRecord
from seawall.prove.run import Result, forgiven
from seawall.prove.scenarios import SCENARIOS
from seawall.prove.timeline import page
from seawall.prove.verdict import Expectation, ScenarioVerdict, TimelineMark, judge, overall

FLEET = """
kind: Fleet
metadata: {name: sim}
spec: {model: {source: "file:///nowhere"}, scaling: {min: 1, max: 4, target: 12}}
"""

CASE = Case(name="c", path="/v1/completions", payload={"stream": True, "return_token_ids": True}, ids=(5, 6, 7),
            text="abc", finish_reason="length")  # fmt: skip


def came(ids: list[int], text: str, finish: str = "length", used: int | None = None) -> RequestOutcome:
    return RequestOutcome(intended_s=0, ids=ids, text=[text], finish_reason=finish, completion_tokens=used)


def test_one_wrong_token_is_seen() -> None:
    assert check(CASE, came([5, 6, 7], "abc", used=3)).wrong_tokens == 0
    assert check(CASE, came([5, 9, 7], "abc")).wrong_tokens == 1
    assert check(CASE, came([5, 6], "ab")).wrong_tokens == 1
    assert check(CASE, came([5, 6, 7, 7], "abcc")).wrong_tokens == 1
    assert check(CASE, came([5, 6, 7], "abX")).wrong_tokens == 1
    assert check(CASE, came([5, 6, 7], "abc", "stop")).wrong_tokens == 1
    assert check(CASE, came([5, 6, 7], "abc", used=9)).wrong_usage


def verdict_of(*outcomes: RequestOutcome, behaviour: str = "reader", **expected: Any) -> ScenarioVerdict:
    records = [StreamRecord(0, CASE, o, check(CASE, o) if o.ok else None, behaviour) for o in outcomes]
    return judge("x", "x", records, Expectation(**expected), duration_s=1, resumed=0, retried=0)


def test_what_breaks_a_promise() -> None:
    good = came([5, 6, 7], "abc")
    assert verdict_of(good).kept
    assert not verdict_of().kept
    assert verdict_of(good, RequestOutcome(intended_s=0, error="eof")).lost == 1
    assert not verdict_of(good, came([5], "a")).kept
    told = RequestOutcome(intended_s=0, error="http-429", retry_after_s=2.0)
    assert verdict_of(good, told, may_reject=True).kept
    assert not verdict_of(good, told).kept
    assert verdict_of(good, RequestOutcome(intended_s=0, error="http-429"), may_reject=True).lost == 1
    assert verdict_of(good, RequestOutcome(intended_s=0, error="cancelled"), behaviour="leaver").left == 1
    late = came([5, 6, 7], "abc")
    late.event_s = [0.0, 20.0]
    assert not verdict_of(late, worst_stall_s=12.0).kept
    assert overall([verdict_of(good)] * 3)["lost_share_at_most"] == pytest.approx(1 - 0.05 ** (1 / 3))


def test_the_spec_that_is_proven() -> None:
    document = yaml.safe_load(FLEET)
    derived = settings.derive(document, SCENARIOS["scale"], "sim", ["resume"])
    assert derived["spec"]["scaling"] | {"min": 1, "max": 4} == derived["spec"]["scaling"]
    assert derived["spec"]["gateway"]["resume"] == "off"
    assert "resume" not in document["spec"].get("gateway", {})
    with pytest.raises(InputError, match="no such mechanism"):
        settings.derive(document, SCENARIOS["scale"], "sim", ["luck"])


def test_a_real_engine_on_a_cpu_is_made_to_answer_the_same_in_any_batch() -> None:
    fleet = yaml.safe_load(FLEET)
    fleet["spec"]["hardware"] = {"gpu": "cpu"}
    spec = settings.derive(fleet, SCENARIOS["kill"], "vllm")["spec"]
    assert (spec["model"]["dtype"], spec["engine"]["kind"]) == ("float32", "vllm")
    assert "dtype" not in settings.derive(fleet, SCENARIOS["kill"], "sim")["spec"]["model"]
    fleet["spec"]["model"]["dtype"] = "bfloat16"
    assert not settings.exact(fleet), "what the Fleet says stays: a control run then judges its tokens"
    assert settings.derive(fleet, SCENARIOS["kill"], "vllm")["spec"]["model"]["dtype"] == "bfloat16"


def test_what_differs_without_any_event_is_not_held_against_one() -> None:
    verdict = verdict_of(
        came([5, 6, 7], "abc"), came([5, 9, 7], "abc"), RequestOutcome(intended_s=0, error="eof")
    )
    after = forgiven(verdict)
    assert (after.wrong_tokens, after.lost, after.kept) == (0, 1, False)
    assert "not counted" in after.notes[0]


def test_every_mechanism_has_a_scenario_that_needs_it() -> None:
    assert {m for s in SCENARIOS.values() for m in s.mechanisms} == set(MECHANISMS)
    switches = {m.switch for m in MECHANISMS.values() if m.switch}
    assert switches == {*GATEWAY, *LOCAL, *BATCH}


def test_scenarios_of_silence_have_requests_of_their_own_and_no_time_outs() -> None:
    document = yaml.safe_load(FLEET)
    for name in ("long-prefill", "held-back"):
        spec = settings.derive(document, SCENARIOS[name], "sim")["spec"]["gateway"]
        assert (spec["stallTimeout"], spec["firstByteTimeout"]) == (None, None), (
            "as a Fleet that says nothing"
        )
        cut = settings.derive(document, SCENARIOS[name], "sim", ["patience"])["spec"]["gateway"]
        assert (cut["stallTimeout"], cut["firstByteTimeout"]) == ("2s", "4s")
    for real in (False, True):
        asked = {name: s.asks("m", real) for name, s in SCENARIOS.items() if s.asks is not None}
        assert all(not body["stream"] and body["max_tokens"] > LONG for _, _, body in asked["long-answer"])
        assert all(body["stream_interval"] > body["max_tokens"] for _, _, body in asked["held-back"])
        bodies = [json.dumps(body) for wanted in asked.values() for _, _, body in wanted]
        assert len(bodies) == len(set(bodies))


def test_what_would_hide_a_loss_is_switched_off_with_its_mechanism() -> None:
    assert off(["drain"]).fleet["gateway.resume"] == "off"
    assert off(["start-proof"]).flags == ("--without=start-proof",)
    assert off(["start-proof"]).fleet == {"gateway.retries": 0}
    assert off([]) == off(())


def test_the_timeline_shows_streams_stalls_and_what_happened() -> None:
    late = came([5, 6, 7], "abc")
    late.event_s, late.ended_s = [0.5, 0.6, 2.6], 2.7
    lost = RequestOutcome(intended_s=0.1, ended_s=1.0, error="eof", detail="<cut>")
    records = [StreamRecord(0, CASE, late, check(CASE, late)), StreamRecord(1, CASE, lost)]
    marks = [TimelineMark(at_s=0.7, text="kill -9 <a>")]
    verdict = judge("kill", "kill", records, Expectation(), duration_s=3, resumed=1, retried=0, marks=marks)
    text = page(Result([verdict], {"kill": records}), "<proof>")
    assert text.count("<rect") == 3
    assert 'href="#scenario-kill"' in text and 'id="scenario-kill"' in text
    assert "time since the scenario" in text
    assert "prefers-color-scheme:dark" in text
    assert "&lt;proof&gt;" in text
    assert "kill -9 &lt;a&gt;" in text
    assert "1 stream lost" in text
    assert "<script" not in text
