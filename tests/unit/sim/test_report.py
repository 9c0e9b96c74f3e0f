"""Reports and sweeps: one file that opens anywhere, answers in words, the best settings marked."""

from __future__ import annotations

import itertools
import re
import struct
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.charts.chart import Chart, ChartLine, ChartMark, Dots, rounded_up, ticks, time_ticks
from seawall.charts.draw import PALETTE, WIDTH, height, svg
from seawall.charts.image import labels, png, told
from seawall.config.plan_files import read_calibration
from seawall.domain.spec import Fleet, Scaling
from seawall.errors import InputError
from seawall.sim import report
from seawall.sim.outcome import Outcome
from seawall.sim.setup import Happening, Setup
from seawall.sim.sweep import front, parse_settings, variants
from seawall.sim.world import simulate
from seawall.workload.arrivals import Requests

SVG = "{http://www.w3.org/2000/svg}"


def texts(drawn: str) -> list[str]:
    return [t.text or "" for t in ET.fromstring(drawn).iter(f"{SVG}text")]


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
    assert len(root.findall(f"{SVG}g")) == len(report.charts_of(outcome))
    style = root.find(f"{SVG}style")
    assert style is not None and "prefers-color-scheme:dark" in str(style.text)


def test_the_png_fits_a_slide(outcome: Outcome) -> None:
    data = png("a run", report.charts_of(outcome), outcome.end_s, report.marks_of(outcome))
    assert data.startswith(b"\x89PNG")
    assert struct.unpack(">II", data[16:24]) == (1920, 1080)
    assert len(data) > 30_000


def test_axes_have_units_objectives_and_events_have_labels(outcome: Outcome) -> None:
    ttft = next(c for c in report.charts_of(outcome) if c.title.startswith("Time to first token"))
    words = texts(svg(ttft, outcome.end_s, report.marks_of(outcome)))
    slo = outcome.setup.fleet.spec.traffic.slo
    assert {"time since the start", "p50", "p95", "1"} <= set(words)
    assert any(w.endswith((" s", " ms", " min")) for w in words), "units stand at the axis"
    if ttft.limit is not None and ttft.limit <= ttft.top():
        assert any(w.startswith("objective ") for w in words), slo
    page = report.html("x", [("one", outcome)])
    assert 'name="viewport"' in page and "prefers-color-scheme:dark" in page


def test_a_long_legend_takes_rows_and_covers_nothing() -> None:
    lines = tuple(ChartLine(f"a series with quite a long name {i}", [1.0, 2.0]) for i in range(9))
    chart = Chart("t", "u", [0, 1], lines)
    root = ET.fromstring(svg(chart, 1))
    swatches = list(root.iter(f"{SVG}rect"))
    assert len(swatches) == 9
    assert all(float(r.get("x", "0")) + 12 <= WIDTH for r in swatches)
    floor_of_legend = max(float(r.get("y", "0")) + 8 for r in swatches)
    curves = [p.get("d", "") for p in root.iter(f"{SVG}path")]
    highest = min(float(y) for d in curves for _, y in re.findall(r"[ML]([\d.]+) ([\d.]+)", d))
    assert highest >= floor_of_legend
    assert height(chart) > height(Chart("t", "u", [0, 1], lines[:1]))


def test_labels_of_events_do_not_run_into_each_other() -> None:
    marks = [ChartMark(i / 10, f"event number {i}") for i in range(200)]
    root = ET.fromstring(svg(Chart("t", "", [0, 20], (ChartLine("a", [1.0, 1.0]),)), 20, marks))
    shown = [t for t in root.iter(f"{SVG}text") if (t.text or "").startswith("event number")]
    places = sorted((float(t.get("x", "0")), len(t.text or "")) for t in shown)
    assert 3 < len(places) < 200
    assert all(b - a >= 6.6 * n for (a, n), (b, _) in itertools.pairwise(places)), "left ends, and widths"
    assert len(list(root.iter(f"{SVG}title"))) == 200, "hovering tells them all"


def test_events_of_one_moment_share_a_label_on_a_slide() -> None:
    marks = [ChartMark(t, str(i + 1)) for i, t in enumerate((10.0, 50.0, 50.0, 51.0, 90.0))]
    assert labels(marks, 100) == [(10.0, "1"), (50.0, "2, 3, 4"), (90.0, "5")]
    crowd = labels([ChartMark(t / 10, str(t)) for t in range(1000)], 100)
    assert all(len(text) < 20 for _, text in crowd)
    assert all(b > a for (a, _), (b, _) in itertools.pairwise(crowd))


def test_events_below_a_slide_are_broken_between_two_of_them() -> None:
    lines = told([ChartMark(i, str(i), f"{i}. {'something long happened ' * 3}") for i in range(8)])
    assert len(lines) > 1
    assert all(re.match(r"\d\. ", line) for line in lines)


def test_dots_without_a_value_are_ticks_on_the_axis() -> None:
    nan = float("nan")
    drawn = svg(Chart("t", "", (), (), dots=(Dots("ok", [(1, 2)]), Dots("failed", [(1, nan)], bad=True))), 2)
    assert drawn.count("<circle") == 1
    assert drawn.count('class="fb"') == 2, "a tick, and its swatch in the legend"


def test_day_and_night_have_every_colour() -> None:
    assert all(len(pair) == 2 and pair[0] != pair[1] for pair in PALETTE.values())


@given(st.floats(1e-6, 1e9))
def test_upright_axes_have_a_handful_of_round_ticks(top: float) -> None:
    found = ticks(rounded_up(top))
    assert 3 <= len(found) <= 7 and found[0] == 0


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
