"""The console as a person has it: a real browser, a real `seawall up` on simulated engines, a killed replica."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from playwright.sync_api import Browser, Page, Route, expect
from tests.e2e.console.browser import chromium, needed
from tests.e2e.local.up_process import Up, fleet_file, seawall_up

NAMED = {"button", "link", "textbox", "combobox", "searchbox", "spinbutton", "listbox"}
WAIT_MS = 30_000
Open = Callable[..., Page]


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    needed()
    folder = tmp_path_factory.mktemp("console")
    with seawall_up(folder, fleet_file(folder, low=2, high=2)) as up:
        up.settled()
        yield up


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    needed()
    with chromium() as browser:
        yield browser


@pytest.fixture
def opened(up: Up, browser: Browser) -> Iterator[Open]:
    """`opened(viewport=...)` -> the page, live. At its end: it has complained of nothing and asked nobody else."""
    url = up.status()["gateway"]["admin_url"]
    complaints: list[str] = []
    asked: list[str] = []
    contexts = []

    def make(live: bool = True, before: Callable[[Page], None] = lambda page: None, **options: Any) -> Page:
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        before(page)
        page.goto(f"{url}/console")
        if live:
            expect(page.locator("#state")).to_have_class("live", timeout=WAIT_MS)
        return page

    yield make
    for context in contexts:
        context.close()
    # A clone that has not fetched the libraries lacks their style: the page says so in tables.
    assert [c for c in complaints if "404" not in c] == []
    assert {urlsplit(address).netloc for address in asked} == {urlsplit(url).netloc}


def stream(up: Up, tokens: int, begun: threading.Semaphore, done: list[str]) -> threading.Thread:
    """A long stream in the background: `begun` at its first event, `done` gets its finish reason."""
    body = {"model": "tiny", "max_tokens": tokens, "temperature": 0, "stream": True, "ignore_eos": True,
            "messages": [{"role": "user", "content": "Count."}]}  # fmt: skip

    def run() -> None:
        events = 0
        with httpx2.stream(
            "POST", f"{up.url}/v1/chat/completions", json=body, timeout=120, trust_env=False
        ) as answer:
            for line in answer.iter_lines():
                if line.startswith("data: {") and (choices := json.loads(line[6:])["choices"]):
                    events += 1
                    if events == 3:
                        begun.release()
                    if choices[0].get("finish_reason"):
                        done.append(choices[0]["finish_reason"])

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def test_a_replica_is_killed_and_the_page_shows_it_out_the_stream_resumed_and_it_back(
    up: Up, opened: Open
) -> None:
    page = opened()
    expect(page.locator("[data-replica]")).to_have_count(2, timeout=WAIT_MS)
    done: list[str] = []
    begun = threading.Semaphore(0)
    threads = [stream(up, 500, begun, done) for _ in range(4)]
    assert all(begun.acquire(timeout=60) for _ in threads)
    victim = up.until(lambda s: next((r for r in s["replicas"] if r["in_flight"]), None))
    row = page.locator(f'[data-replica="{victim["name"]}"]')
    expect(row).to_contain_text("ready")
    os.kill(victim["pid"], signal.SIGKILL)
    expect(page.locator("#streams-body")).to_contain_text("once", timeout=WAIT_MS)
    timeline = page.locator("#timeline-body")
    for kind in ("eviction", "resume", "return"):
        expect(timeline.locator(f'li[data-kind="{kind}"]').first).to_be_visible(timeout=WAIT_MS)
    expect(timeline.locator('li[data-kind="eviction"]').first).to_contain_text(victim["name"])
    expect(row).to_contain_text("ready", timeout=WAIT_MS)
    for thread in threads:
        thread.join(90)
    assert done == ["length"] * 4
    expect(page.locator("#fleets-body")).to_contain_text("tiny")


def test_the_playground_streams(opened: Open) -> None:
    page = opened()
    page.locator("#most").fill("40")
    page.locator("#ask").fill("What is the capital of France?")
    page.locator("#ask").press("Control+Enter")
    expect(page.locator("#told")).to_contain_text("first token after", timeout=WAIT_MS)
    assert len(page.locator("#talk p.model").inner_text()) > 40
    page.locator("#anew").click()
    expect(page.locator("#talk p")).to_have_count(0)


def test_filters_paging_and_keys_of_the_keyboard(opened: Open) -> None:
    page = opened()
    expect(page.locator("[data-replica]")).to_have_count(2, timeout=WAIT_MS)
    page.keyboard.press("/")
    expect(page.locator("#find")).to_be_focused()
    page.keyboard.type("tiny-1")
    expect(page.locator("[data-replica]")).to_have_count(1, timeout=WAIT_MS)
    page.locator("#find").fill("")
    expect(page.locator("[data-replica]")).to_have_count(2, timeout=WAIT_MS)
    page.locator("#phase").select_option("trouble")
    expect(page.locator("#replicas-body")).to_contain_text("0 of 2 found", timeout=WAIT_MS)
    page.keyboard.press("Home")
    fleet = page.get_by_role("button", name="tiny", exact=True)
    fleet.focus()
    page.keyboard.press("Enter")
    expect(fleet).to_have_attribute("aria-pressed", "true")


def test_everything_has_a_name_for_who_does_not_see_it(opened: Open) -> None:
    page = opened()
    expect(page.locator("[data-replica]")).to_have_count(2, timeout=WAIT_MS)
    nodes = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    seen: dict[str, list[str]] = {}
    for node in nodes:
        if not node.get("ignored"):
            role = node.get("role", {}).get("value", "")
            seen.setdefault(role, []).append(str(node.get("name", {}).get("value", "")).strip())
    nameless = [role for role in NAMED & seen.keys() if not all(seen[role])]
    assert not nameless, f"controls without a name: {nameless}"
    assert {"banner", "main", "navigation", "region", "table", "status"} <= seen.keys()
    headings = {"Fleets", "Replicas", "Timeline", "Live streams that were resumed", "Playground"}
    assert headings <= {name.partition(" of ")[0] for name in seen["heading"]}
    assert page.locator("html").get_attribute("lang") == "en"


def test_a_phone_and_the_dark(opened: Open) -> None:
    phone = opened(viewport={"width": 360, "height": 740}, color_scheme="dark")
    expect(phone.locator("[data-replica]")).to_have_count(2, timeout=WAIT_MS)
    assert phone.evaluate("document.documentElement.scrollWidth") <= 360
    red, green, blue = phone.evaluate(
        "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
    )
    assert red + green + blue < 150


def test_a_clone_without_the_libraries_shows_every_number_in_tables(opened: Open) -> None:
    def bare(page: Page) -> None:
        def about(route: Route) -> None:
            told = route.fetch().json() | {"libraries": []}
            route.fulfill(json=told)

        page.route("**/console/api/about", about)
        page.route("**/console/lib/**", lambda route: route.fulfill(status=404))

    page = opened(before=bare)
    expect(page.locator("[data-replica]")).to_have_count(2, timeout=WAIT_MS)
    expect(page.locator("#charts table")).to_contain_text("Time to first token, p95", timeout=WAIT_MS)
    expect(page.locator("#charts canvas")).to_have_count(0)
    expect(page.locator("#timeline-body li").first).to_be_visible()


def test_charts_are_drawn_where_the_libraries_are(opened: Open) -> None:
    page = opened()
    if "preact" not in page.evaluate(
        "fetch('/console/api/about').then((a) => a.json()).then((a) => a.libraries)"
    ):
        needed_libraries()
    expect(page.locator("#charts canvas")).to_have_count(7, timeout=WAIT_MS)
    expect(page.locator("#charts figcaption").first).to_contain_text("p50")
    tops = page.evaluate(
        """async () => {
        const { top } = await import('/console/charts.js')
        return [top({ usual: 1 }, null), top({ usual: 1 }, 0), top({ usual: 1 }, 5e-3), top({ top: 1 }, 0)]
    }"""
    )
    assert tops == pytest.approx([1.1, 1.1, 5.5e-3, 1]), (
        "an axis without values is none of parts of a nanosecond"
    )


def needed_libraries() -> None:
    (pytest.fail if os.environ.get("CI") else pytest.skip)(
        "the libraries are not here: scripts/console_libs.sh"
    )


def test_a_key_is_asked_for_sent_as_a_header_and_stands_in_no_address(opened: Open) -> None:
    sent: list[tuple[str, str]] = []

    def keyed(page: Page) -> None:
        page.route(
            "**/console/api/about", lambda route: route.fulfill(json=route.fetch().json() | {"keys": True})
        )
        page.on("request", lambda r: sent.append((r.url, r.headers.get("authorization", ""))))

    page = opened(live=False, before=keyed)
    expect(page.locator("#key")).to_be_focused(timeout=WAIT_MS)
    expect(page.locator("#main")).to_be_hidden()
    page.keyboard.type("sk-sw-secret")
    page.keyboard.press("Enter")
    expect(page.locator("#state")).to_have_class("live", timeout=WAIT_MS)
    assert any("/api/stream" in url and key == "Bearer sk-sw-secret" for url, key in sent)
    assert not any("secret" in url for url, _ in sent)
    assert "secret" not in page.url


def test_the_command_prints_the_address_of_what_runs_here(up: Up) -> None:
    argv = [sys.executable, "-m", "seawall", "console", "--state-dir", str(up.state_dir)]
    said = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert said.returncode == 0
    assert said.stdout == f"{up.status()['gateway']['admin_url']}/console\n"
    assert httpx2.get(said.stdout.strip(), trust_env=False).status_code == 200
    nobody = [*argv[:-1], str(up.state_dir / "nothing")]
    said = subprocess.run(nobody, capture_output=True, text=True, timeout=60)
    assert said.returncode == 2 and "seawall up" in said.stderr
