"""Whether an engine hangs, from two looks at its metrics and what gateways say: never called dead for silence alone."""

from __future__ import annotations

from typing import Any

import pytest

from seawall.diagnose.cause import Cause
from seawall.diagnose.collect import _SERIES
from seawall.diagnose.facts import Facts, parse_facts
from seawall.diagnose.liveness import hung
from seawall.engines.vllm import metrics as vllm

STANDS = {vllm.RUNNING: 3.0, vllm.WAITING: 1.0, vllm.GENERATION_TOKENS: 900.0, vllm.PROMPT_TOKENS: 5000.0,
          vllm.KV_USAGE: 0.4, vllm.STEPS: 70.0, vllm.PREEMPTIONS: 0.0}  # fmt: skip


def facts(moved: dict[str, float] | None = None, apart_s: float = 5.0, **more: Any) -> Facts:
    now = {**STANDS, **(moved or {})}
    return Facts(
        metrics={name: {"p": value} for name, value in now.items()},
        metrics_before={name: {"p": value} for name, value in STANDS.items()},
        metrics_apart_s=apart_s,
        **more,
    )


def only(found: Facts) -> Cause:
    (cause,) = hung(found)
    return cause


@pytest.mark.parametrize("name", vllm.MARKS)
def test_one_statistic_that_moves_is_a_sign_of_life(name: str) -> None:
    """A prefill moves the use of the KV cache and no counter of tokens: it was called a hang, with `kubectl delete`."""
    assert not list(hung(facts({name: STANDS[name] + 0.01})))


def test_silence_alone_is_no_hang() -> None:
    cause = only(facts())
    assert cause.certainty == "possible"
    assert "kubectl delete" not in cause.do and "long prompt" in cause.what


@pytest.mark.parametrize("state", ["evicted", "probing"])
def test_it_hangs_where_a_gateways_asks_are_unanswered(state: str) -> None:
    said = {
        "replicas": {"p": {"fleet": "f", "state": state, "reason": "no sign for 43 s, 3 asks unanswered"}}
    }
    for told in ({"gateway": said}, {"gateways": {"g-1": said}, "gateway": said}):
        cause = only(facts(**told))
        assert (cause.certainty, cause.subject) == ("likely", "Pod/p")
        assert "kubectl delete pod p" in cause.do
        assert sum("43 s" in e for e in cause.evidence) == 1


def test_a_gateway_that_trusts_it_changes_nothing() -> None:
    said = {"replicas": {"p": {"fleet": "f", "state": "ready"}, "q": {"fleet": "f", "state": "evicted"}}}
    assert only(facts(gateway=said)).certainty == "possible"


def test_one_that_owes_nothing_or_tells_nothing_is_not_judged() -> None:
    idle = {name: {"p": 0.0} for name in vllm.MARKS}
    assert not list(hung(Facts(metrics=idle, metrics_before=idle)))
    assert not list(hung(Facts(metrics={vllm.RUNNING: {"p": 3.0}})))


def test_its_own_pace_says_how_long_to_wait() -> None:
    fast = {vllm.PREFILL_S: 1.0, vllm.PREFILLED_TOKENS: 100_000.0}
    slow = {vllm.PREFILL_S: 1000.0, vllm.PREFILLED_TOKENS: 100_000.0}
    assert "up to 30 s" in only(facts(fast)).do
    assert "up to 358 s" in only(facts(slow)).do


def test_all_that_counts_is_collected() -> None:
    assert set(vllm.MARKS) <= _SERIES


@pytest.mark.parametrize(
    ("given", "read"), [("5", 5.0), ("2.5", 2.5), ("null", 15.0), ('"x"', 15.0), ("-1", 15.0)]
)
def test_the_pause_between_the_looks_is_read(given: str, read: float) -> None:
    assert parse_facts(f'{{"metrics_apart_s": {given}}}').metrics_apart_s == read
