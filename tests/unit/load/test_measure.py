"""Numbers: percentiles that were observed, latencies that count from when a request was due, bounds that hold."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seawall.load.capacity import KEEPS_UP
from seawall.load.client import RequestOutcome
from seawall.load.measure import Objective, at_most, percentile, summarise


def finished(due: float, sent: float, first: float, ended: float, tokens: int = 11) -> RequestOutcome:
    gap = (ended - first) / (tokens - 1)
    return RequestOutcome(
        intended_s=due, sent_s=sent, first_s=first, ended_s=ended, status=200, completion_tokens=tokens,
        event_s=[first + i * gap for i in range(tokens)], event_tokens=[1] * tokens, finish_reason="length",
    )  # fmt: skip


@settings(deadline=None)
@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.1, 100))
def test_a_percentile_is_a_value_that_was_seen(values: list[float], p: float) -> None:
    ordered = sorted(values)
    found = percentile(ordered, p)
    assert found in values
    assert sum(v <= found for v in values) >= p / 100 * len(values) - 1e-9


def test_latency_counts_from_when_a_request_was_due() -> None:
    late = finished(due=0.0, sent=5.0, first=5.1, ended=6.1)
    summary = summarise([late], 6.1)
    assert summary.ttft is not None
    assert summary.ttft.max == pytest.approx(5.1)
    assert summary.late is not None
    assert summary.late.max == pytest.approx(5.0)


def test_goodput_counts_what_was_whole_and_in_time() -> None:
    fast = finished(0, 0, 0.1, 1.1)
    slow = finished(0, 0, 3.0, 4.0)
    broken = RequestOutcome(intended_s=0, error="eof")
    summary = summarise([fast, slow, broken], 2.0, Objective(ttft_s=1.0, tpot_s=0.2))
    assert (summary.finished, summary.good, summary.errors) == (2, 1, {"eof": 1})
    assert summary.goodput_rps == pytest.approx(0.5)
    assert summary.good_share == pytest.approx(1 / 3)


def test_a_chunk_of_several_tokens_is_several_gaps() -> None:
    o = finished(0, 0, 1.0, 2.0)
    o.event_s, o.event_tokens = [1.0, 1.4], [1, 4]
    summary = summarise([o], 2.0)
    assert summary.itl is not None
    assert summary.itl.max == pytest.approx(0.1)


def test_no_loss_in_n_is_the_rule_of_three() -> None:
    assert at_most(0, 12_000) == pytest.approx(3 / 12_000, rel=0.01)
    assert at_most(0, 0) == 1.0
    assert at_most(5, 5) == 1.0


@settings(deadline=None)
@given(st.integers(1, 400), st.data())
def test_the_bound_is_clopper_pearsons(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n - 1))
    p = at_most(k, n)
    assert k / n <= p <= 1
    tail = sum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k + 1))
    assert tail == pytest.approx(0.05, rel=1e-3)


def test_a_backlog_that_grows_is_seen_before_it_hurts() -> None:
    keeps = [finished(i / 10, i / 10, i / 10 + 0.1, i / 10 + 0.2) for i in range(100)]
    falls = [finished(i / 10, i / 10, i / 8 + 0.1, i / 8 + 0.2) for i in range(100)]
    assert summarise(keeps, 10).kept_up == pytest.approx(1.0, abs=0.03)
    assert summarise(falls, 10).kept_up == pytest.approx(0.8, abs=0.05)
    assert summarise(keeps[:10], 1).kept_up is None
    few = [finished(i / 1.5, i / 1.5, i / 1.5 + 0.2, i / 1.5 + (4.0 if i > 18 else 1.5)) for i in range(25)]
    assert (summarise(few, 20).kept_up or 0) > KEEPS_UP, "three more in flight than at first are no backlog"
