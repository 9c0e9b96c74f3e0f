"""The console of a gateway that asks for keys: a real browser, a real gateway with a real keys file behind it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect
from tests.e2e.console.browser import chromium, needed
from tests.e2e.local.up_process import Up, seawall_up

WAIT_MS = 30_000
FORGET = "() => sessionStorage.removeItem('seawall-key')"


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    needed()
    with seawall_up(
        tmp_path_factory.mktemp("keyed"), "Qwen/Qwen3-0.6B", "--engine", "sim", "--api-key"
    ) as up:
        up.settled()
        yield up


@pytest.fixture(scope="module")
def key(up: Up) -> str:
    return next(line for line in up.output.read_text().splitlines() if line.startswith("sk-sw-"))


@pytest.fixture
def page(up: Up) -> Iterator[Page]:
    with chromium() as browser:
        page = browser.new_page()
        page.goto(f"{up.status()['gateway']['admin_url']}/console")
        yield page


def enter(page: Page, key: str) -> None:
    expect(page.locator("#key")).to_be_focused(timeout=WAIT_MS)
    page.keyboard.type(key)
    page.keyboard.press("Enter")


def test_a_wrong_key_is_told_and_the_right_one_opens_the_page(page: Page, key: str) -> None:
    addresses: list[str] = []
    page.on("request", lambda r: addresses.append(r.url))
    enter(page, "sk-sw-wrong")
    expect(page.locator("#door-why")).not_to_be_empty(timeout=WAIT_MS)
    expect(page.locator("#main")).to_be_hidden()
    enter(page, key)
    expect(page.locator("#state")).to_have_class("live", timeout=WAIT_MS)
    expect(page.locator("#fleets-body")).to_contain_text("qwen3-0-6b")
    assert addresses and not any("sk-sw" in address for address in [*addresses, page.url])


def test_the_playground_keeps_what_was_asked_until_it_has_a_key(page: Page, key: str) -> None:
    enter(page, key)
    expect(page.locator("#state")).to_have_class("live", timeout=WAIT_MS)
    page.evaluate(FORGET)
    page.locator("#most").fill("20")
    page.locator("#ask").fill("What is the capital of France?")
    page.locator("#send").click()
    expect(page.locator("#told")).to_contain_text("refused", timeout=WAIT_MS)
    expect(page.locator("#play-key")).to_be_focused()
    expect(page.locator("#ask")).to_have_value("What is the capital of France?")
    page.keyboard.type(key)
    page.keyboard.press("Enter")
    expect(page.locator("#told")).to_contain_text("first token after", timeout=WAIT_MS)
    expect(page.locator("#play-door")).to_be_hidden()
    expect(page.locator("#ask")).to_have_value("")
    expect(page.locator("#talk p.you")).to_have_count(1)


def test_a_new_conversation_knows_nothing_of_an_answer_that_was_left(page: Page, key: str) -> None:
    asked: list[list[dict[str, str]]] = []
    page.on("request", lambda r: asked.append(r.post_data_json["messages"]) if r.post_data else None)
    enter(page, key)
    expect(page.locator("#state")).to_have_class("live", timeout=WAIT_MS)
    page.locator("#most").fill("2000")
    page.locator("#ask").fill("Count.")
    page.locator("#send").click()
    expect(page.locator("#talk p.model")).to_contain_text(" ", timeout=WAIT_MS)
    page.locator("#anew").click()
    expect(page.locator("#send")).to_be_enabled(timeout=WAIT_MS)
    page.locator("#most").fill("3")
    page.locator("#ask").fill("And now?")
    page.locator("#send").click()
    expect(page.locator("#told")).to_contain_text("first token after", timeout=WAIT_MS)
    assert [m["role"] for m in asked[-1]] == ["user"]
