"""Workloads: rates as people write them, processes with the right mean and burstiness, public traces."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.errors import InputError
from seawall.workload.arrivals import (
    RatePhase,
    Requests,
    arrival_times,
    expected,
    lengths,
    parse_rate,
    parse_shares,
    split,
    synthetic,
)
from seawall.workload.traces import read_trace


def rng(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_rates_as_people_write_them() -> None:
    assert parse_rate("10/s for 5m, 50/s for 10m") == [RatePhase(10, 300), RatePhase(50, 600)]
    assert parse_rate("60/m to 10/s for 1m30s") == [RatePhase(1, 90, to=10)]
    assert parse_rate("20/s +-15/s every 1h for 3h") == [RatePhase(20, 10800, swing=15, period_s=3600)]


def test_shares_are_as_written_else_as_the_specs_rates_else_alike() -> None:
    assert parse_shares("b=1,a=3", {"a": None, "b": 9.0}) == [0.75, 0.25]
    assert parse_shares(None, {"a": 1.0, "b": 4.0}) == [0.2, 0.8]
    assert parse_shares(None, {"a": 1.0, "b": None}) == [0.5, 0.5]
    for text in ("", "a", "a=x", "a=-1", "a=1,a=1", "c=1", "a=0", "a=1;b=1"):
        with pytest.raises(InputError, match="--share"):
            parse_shares(text, {"a": None, "b": None})


def test_a_load_is_split_without_losing_a_request_or_tearing_a_prefix_apart() -> None:
    whole = Requests(
        arrival=np.arange(4000.0),
        prompt=np.arange(4000, dtype=np.int32),
        output=np.ones(4000, np.int32),
        prefix=np.tile(np.array([-1, 0, 1, 2, 3, 4], np.int32), 667)[:4000],
        shared=np.zeros(4000, np.int32),
    )
    parts = split(whole, [0.7, 0.3], rng())
    assert sorted(np.concatenate([p.prompt for p in parts])) == list(range(4000))
    groups = [set(p.prefix.tolist()) - {-1} for p in parts]
    assert not groups[0] & groups[1] and groups[0] | groups[1] == {0, 1, 2, 3, 4}
    assert 0.6 < (parts[0].prefix == -1).sum() / 667 < 0.8
    assert all((np.diff(p.arrival) > 0).all() and p.duration_s == whole.duration_s for p in parts)


@pytest.mark.parametrize(
    "text", ["", "fast", "10/s", "10/s for", "10/s for ever", "10/s for 0s", "-1/s for 5m"]
)
def test_a_rate_that_cannot_be_read_names_itself(text: str) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        parse_rate(text)


def test_even_arrivals_follow_a_ramp() -> None:
    times = arrival_times(parse_rate("0/s to 20/s for 10s"), rng(), burst=0)
    gaps = np.diff(times)
    assert len(times) == 100
    assert (np.diff(gaps[1:]) < 1e-3).all()
    assert gaps[-1] == pytest.approx(1 / 20, rel=0.02)


@pytest.mark.parametrize("burst", [1.0, 3.0])
@pytest.mark.parametrize(
    "text", ["50/s for 400s", "0/s to 100/s for 400s", "50/s +-40/s every 100s for 400s"]
)
def test_the_mean_is_kept_and_burst_is_the_variation_of_the_gaps(text: str, burst: float) -> None:
    phases = parse_rate(text)
    times = arrival_times(phases, rng(), burst)
    assert expected(phases) == pytest.approx(20_000)
    assert len(times) == pytest.approx(20_000, rel=0.03 * burst)
    assert np.all(np.diff(times) >= 0)
    if "to" not in text and "+-" not in text:
        gaps = np.diff(times)
        assert gaps.std() / gaps.mean() == pytest.approx(burst, rel=0.1)


def test_a_silent_phase_brings_nothing() -> None:
    times = arrival_times(parse_rate("5/s for 10s, 0/s for 100s, 5/s for 10s"), rng())
    assert not np.any((times > 10) & (times < 110))


@given(st.integers(0, 2**32), st.floats(1, 1000), st.floats(0, 3))
def test_lengths_are_positive_and_bounded(seed: int, mean: float, cv: float) -> None:
    drawn = lengths(mean, 100, np.random.default_rng(seed), cv, most=5000)
    assert drawn.min() >= 1
    assert drawn.max() <= 5000


def test_the_same_seed_gives_the_same_workload() -> None:
    phases = parse_rate("10/s for 60s")
    a, b = (synthetic(phases, rng(7), 500, 100) for _ in range(2))
    assert np.array_equal(a.arrival, b.arrival)
    assert np.array_equal(a.prompt, b.prompt)
    assert a.prompt.mean() == pytest.approx(500, rel=0.2)


AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:17:03.9799600,4808,10
2023-11-16 18:17:05.0000000,110,27
"""
BURST = """Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type
5,ChatGPT,472,18,490,Conversation log
45,GPT-4,100,0,100,API log
118,ChatGPT,1087,230,1317,Conversation log
"""
MOON = """{"timestamp": 0, "input_length": 1100, "output_length": 5, "hash_ids": [1, 2, 3]}
{"timestamp": 3000, "input_length": 1100, "output_length": 6, "hash_ids": [1, 2, 9]}
"""


def test_the_public_formats() -> None:
    azure = read_trace(AZURE.splitlines(), "a.csv")
    assert azure.arrival.tolist() == pytest.approx([0, 1.02004])
    assert azure.prompt.tolist() == [4808, 110]
    burst = read_trace(BURST.splitlines(), "b.csv")
    assert burst.arrival.tolist() == [0, 113], "a response of no tokens was a failed request"
    moon = read_trace(MOON.splitlines(), "m.jsonl")
    assert moon.arrival.tolist() == [0, 3]
    assert moon.prefix.tolist() == [0, 0]
    assert moon.shared.tolist() == [0, 1024]


def test_broken_lines_are_counted_and_too_many_are_an_error() -> None:
    some = read_trace((AZURE + "nonsense,x,y\n").splitlines(), "a.csv")
    assert "1 line left out" in some.source
    with pytest.raises(InputError, match="cannot be read") as e:
        read_trace((AZURE + "nonsense\n" * 50).splitlines(), "a.csv")
    assert "'nonsense'" in e.value.cure


@pytest.mark.parametrize("text", ["", "a,b\n1,2", "{}\n", "TIMESTAMP,ContextTokens\n1,2\n"])
def test_what_is_no_trace_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        read_trace(text.splitlines(), "x")


def test_times_that_are_no_times_are_left_out_and_the_rest_sorted() -> None:
    lines = (AZURE + "nan,5,5\ninf,5,5\n2023-11-16 18:15:00,7,7\n1e400,5,5\n").splitlines()
    found = read_trace(lines, "a.csv")
    assert "3 lines left out" in found.source
    assert found.prompt[0] == 7, "the earliest comes first"
    assert np.isfinite(found.arrival).all() and (np.diff(found.arrival) >= 0).all()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("TIMESTAMP,ContextTokens\n2023-11-16 18:15:00,7\n", "no column generatedtokens"),
        ("TIMESTAMP,GeneratedTokens\n2023-11-16 18:15:00,7\n", "no column contexttokens"),
        ("Timestamp,Response tokens\n1,7\n", "no column request tokens"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n", "holds no request"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n,,\n", r"holds no request \(1 line cannot be read"),
        ('{"timestamp": 1}\n', "holds no request"),
        ('{"timestamp": NaN, "input_length": 5, "output_length": 5}\n', "holds no request"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n1," + "9" * 200_000 + ",1\n", "holds no request"),
        ('{"timestamp": 1, "input_length": 1e999, "output_length": 5}\n', "holds no request"),
    ],
)
def test_traces_say_what_they_lack(text: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        read_trace(text.splitlines(keepends=True), "t")


def test_the_quiet_at_the_end_of_a_load_belongs_to_it() -> None:
    rng = np.random.default_rng(1)
    assert synthetic(parse_rate("5/s for 1m, 0/s for 10m"), rng, 10, 10).duration_s == 660
    assert synthetic(parse_rate("0/s for 1h"), rng, 10, 10).duration_s == 3600


@pytest.mark.parametrize("rate", ["5/s", "1/s to 20/s", "20/s +-15/s every 1m"])
def test_a_rate_without_an_end_is_told_what_is_missing(rate: str) -> None:
    with pytest.raises(InputError) as told:
        parse_rate(f"1/s for 1m, {rate}")
    assert told.value.cure == f"Say for how long: '{rate} for 10m'."
    parse_rate(f"{rate} for 10m")
