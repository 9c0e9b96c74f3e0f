"""Reports and sweeps: one file that opens anywhere, answers in words, the best settings marked."""

from __future__ import annotations

import struct
import xml.etree.ElementTree as ET
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.config.plan_files import read_calibration
from seawall.domain.spec import Fleet, Scaling
from seawall.errors import InputError
from seawall.sim import report
from seawall.sim.charts import Chart, ChartLine, rounded_up, svg, time_ticks
from seawall.sim.outcome import Outcome
from seawall.sim.raster import png
from seawall.sim.setup import Happening, Setup
from seawall.sim.sweep import front, parse_settings, variants
from seawall.sim.world import simulate
from seawall.workload.arrivals import Requests


@pytest.fixture
def outcome(make: Callable[..., Setup], load: Callable[..., Requests]) -> Outcome:
    setup = make(Scaling(min=1, max=6, target=10), happenings=(Happening(100, "kill"),))
    return simulate(setup, load("3/s for 2m, 12/s for 5m"))


def test_the_page_stands_alone(outcome: Outcome) -> None:
    page = report.html("a <b> & c", [("one", outcome), ("two", outcome)])
    assert page.startswith("<!doctype html>")
    assert "a &lt;b&gt; &amp; c" in page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "<script" not in page
    for name in ("Requests", "Queue", "Replicas", "Time to first token", "Cost", "What happened"):
        assert name in page


def test_the_picture_is_well_formed_svg(outcome: Outcome) -> None:
    root = ET.fromstring(report.picture(outcome))
    assert root.tag.endswith("svg")
    assert len(list(root)) == len(report.charts_of(outcome))


def test_the_png_holds_every_pixel_it_says(outcome: Outcome) -> None:
    data = png(report.charts_of(outcome), outcome.end_s)
    assert data.startswith(b"\x89PNG")
    wide, high = struct.unpack(">II", data[16:24])
    at = data.index(b"IDAT")
    size = struct.unpack(">I", data[at - 4 : at])[0]
    assert len(zlib.decompress(data[at + 4 : at + 4 + size])) == high * (1 + 3 * wide)


def test_the_words_say_the_summary(outcome: Outcome) -> None:
    rows = dict(report.rows_of(outcome))
    assert f"{outcome.counts.done:,} of {outcome.counts.arrived:,} answered, 0 lost" in rows["requests"]
    assert "$" in rows["cost"]
    assert "| one |" in report.markdown([("one", outcome)])


def test_gaps_in_a_series_break_the_line() -> None:
    chart = Chart("t", "", [0, 1, 2, 3], (ChartLine("a", [1, float("nan"), 2, 3]),))
    assert svg(chart, 3).count("M") == 2


@given(st.floats(1e-6, 1e9))
def test_axes_end_at_or_above_every_value(value: float) -> None:
    assert value * 0.999 <= rounded_up(value) <= value * 10


@given(st.floats(0.5, 1e7))
def test_time_axes_have_a_handful_of_ticks(end: float) -> None:
    assert 1 <= len(time_ticks(end)) <= 116


def test_sweeps_are_every_combination(make: Callable[..., Setup]) -> None:
    fleet: Fleet = make().fleet
    settings = parse_settings(["scaling.target=8,16", "spot=true,false", "replicas=3"])
    found = list(variants(fleet, settings))
    assert [v.fleet.spec.scaling.target for v in found] == [8, 8, 16, 16]
    assert [v.fleet.spec.hardware.spot is not None for v in found] == [True, False, True, False]
    assert {v.replicas for v in found} == {3}
    assert found[0].label == "scaling.target=8 spot=true replicas=3"


@pytest.mark.parametrize(
    "words",
    [
        ["scaling.target"],
        ["=1"],
        ["policy=magic"],
        ["scaling.nothing=1"],
        ["scaling.min.x=1"],
        ["replicas=many"],
        ["scaling.max=" + ",".join(map(str, range(1, 300)))],
    ],
)
def test_a_setting_that_the_spec_refuses_is_refused(make: Callable[..., Setup], words: list[str]) -> None:
    with pytest.raises(InputError):
        list(variants(make().fleet, parse_settings(words)))


def test_the_front_is_what_nothing_else_beats() -> None:
    assert front([(1, 0.5), (2, 0.9), (3, 0.9), (1, 0.4), (2, 0.9)]) == [True, True, False, False, True]


GOOD = '{"timing": {"base_s": 0.01, "prefill_token_s": 1e-5, "decode_seq_s": 0, "weight_read_s": 0, "kv_token_s": 0}}'


def test_calibration_files(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text(GOOD)
    assert read_calibration(path).base_s == 0.01
    assert read_calibration(path).prefill_pair_s == 0
    for text in (
        "",
        "[]",
        "{}",
        GOOD.replace("0.01", '"fast"'),
        GOOD.replace("0.01", "-1"),
        GOOD.replace("0.01", "0"),
    ):
        path.write_text(text)
        with pytest.raises(InputError):
            read_calibration(path)
    with pytest.raises(InputError):
        read_calibration(tmp_path / "absent.json")
