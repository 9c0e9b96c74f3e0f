"""Reports of `simulate`, `bench` and `prove` as a browser shows them: on a phone, on a screen, and by night."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page
from tests.e2e.console.browser import chromium, needed

from seawall.load import page as bench
from seawall.load.client import RequestOutcome
from seawall.load.measure import Objective, summarise
from seawall.prove import timeline
from seawall.prove.cases import Case
from seawall.prove.pressure import StreamRecord
from seawall.prove.run import Result
from seawall.prove.verdict import Expectation, TimelineMark, judge

PHONE, SCREEN = 390, 1200
LEAST_PX = 9.0
"""Text that is lower than this nobody reads."""

LOWEST = (
    "() => Math.min(...[...document.querySelectorAll('svg text')].map(t => t.getBoundingClientRect().height))"
)
BESIDE = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
COVERED = """() => [...document.querySelectorAll('svg')].flatMap(svg => {
    const boxes = [...svg.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()])
    return boxes.flatMap(([a, x], i) => boxes.slice(i + 1).filter(([b, y]) =>
        x.left < y.right - 1 && y.left < x.right - 1 && x.top < y.bottom - 4 && y.top < x.bottom - 4
    ).map(([b]) => a + ' | ' + b))
})"""
"""Pairs of texts that lie on each other."""


def of_simulate(folder: Path) -> Path:
    path = folder / "simulate.html"
    argv = ["simulate", "examples/smollm2.yaml", "--rate", "0.2/s for 2m, 1/s for 3m", "--html", str(path)]
    events = ["--event", "1m rollout", "--event", "2m kill"]
    subprocess.run(
        [sys.executable, "-m", "seawall", *argv, *events], check=True, capture_output=True, timeout=120
    )
    return path


def outcome(at: float, **more: Any) -> RequestOutcome:
    return RequestOutcome(intended_s=at, ended_s=at + 1.5, event_s=[at + 0.2, at + 0.3, at + 1.4], **more)


def of_bench(folder: Path) -> Path:
    outcomes = [outcome(i / 4, completion_tokens=3) for i in range(80)]
    outcomes += [RequestOutcome(intended_s=20.0, ended_s=21.0, error="eof")]
    text = bench.page("bench", summarise(outcomes, 21), outcomes, {"url": "http://x"}, Objective())
    (folder / "bench.html").write_text(text)
    return folder / "bench.html"


def of_prove(folder: Path) -> Path:
    case = Case(
        name="c", path="/v1/completions", payload={"stream": True}, ids=(1,), text="a", finish_reason="length"
    )
    records = [StreamRecord(lane, case, outcome(lane + 0.1)) for lane in range(10)]
    marks = [TimelineMark(at_s=t, text=f"kill -9 smollm2-{i}") for i, t in enumerate((1.0, 5.5, 5.6, 6.0))]
    verdict = judge("kill", "kill", records, Expectation(), duration_s=11, resumed=1, retried=0, marks=marks)
    (folder / "prove.html").write_text(timeline.page(Result([verdict], {"kill": records}), "prove"))
    return folder / "prove.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    needed()
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module", params=[of_simulate, of_bench, of_prove], ids=lambda made: made.__name__)
def report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = request.param(tmp_path_factory.mktemp("report"))
    return path


def opened(browser: Browser, report: Path, width: int, **options: Any) -> Page:
    page = browser.new_context(viewport={"width": width, "height": 900}, **options).new_page()
    page.goto(report.as_uri())
    return page


@pytest.mark.parametrize("width", [PHONE, 700, SCREEN])
def test_axes_can_be_read_at_every_width(browser: Browser, report: Path, width: int) -> None:
    page = opened(browser, report, width)
    assert page.evaluate(LOWEST) >= LEAST_PX
    assert page.evaluate(BESIDE) <= 0, "a wide picture is pushed aside in its own frame, not the page"
    page.context.close()


def test_no_word_of_a_picture_lies_on_another(browser: Browser, report: Path) -> None:
    page = opened(browser, report, SCREEN)
    assert page.evaluate(COVERED) == []
    page.context.close()


def test_by_night_ink_is_light_and_paper_dark(browser: Browser, report: Path) -> None:
    lights = []
    for scheme in ("light", "dark"):
        page = opened(browser, report, SCREEN, color_scheme=scheme)
        style = "e => [getComputedStyle(e).backgroundColor, getComputedStyle(e).color]"
        colours = page.locator("body").evaluate(style)
        lights.append([sum(int(n) for n in c[4:-1].split(",")) for c in colours])
        page.context.close()
    (paper, ink), (paper_at_night, ink_at_night) = lights
    assert paper > ink and ink_at_night > paper_at_night
