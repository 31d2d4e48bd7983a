"""The served page and the study in a real browser: typed into, slid, opened, rated, and on a phone."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import uvicorn
from playwright.sync_api import Page, expect

from progloc.app.application import create_app
from progloc.app.database import DONE, Database
from progloc.app.survey import RUBRIC, Answers
from stand_in_server import BASE, MODEL, stand_in

pytestmark = pytest.mark.slow

HOSTILE = "<script>document.title = 'run'</script><img src=x onerror=\"document.title='run'\"> A cat sat. It was warm."
STUDY = ("A cat sat on the mat. It was warm. What did it do?", "The train leaves at nine. It is late. When is that?")
PHONE = {"width": 400, "height": 800}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with closing(Database(tmp_path / "data.sqlite")) as database:
        yield database


@pytest.fixture
def address(database: Database) -> Iterator[str]:
    """A server in a thread of this process, with a study whose audits are made."""
    app = create_app(stand_in, database, model=MODEL, base=BASE, study=STUDY)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started or any(item.state != DONE for item in Answers(database).items()):
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def tab(address: str, tab: Page) -> Page:
    """A tab that is closed before its server stops, for a page may still be loading."""
    return tab


def fits(tab: Page) -> bool:
    """Whether nothing has to be scrolled sideways."""
    return bool(tab.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"))


def ask(tab: Page, prompt: str) -> None:
    tab.get_by_label("Prompt").fill(prompt)
    tab.get_by_role("button", name="Audit").click()
    expect(tab.locator("#whole iframe")).to_be_visible()


def test_a_prompt_is_typed_the_dial_moved_and_the_audit_opened(tab: Page, address: str) -> None:
    tab.goto(address)
    tab.get_by_label("Prompt").fill("A cat sat on the mat. It was warm. What did it do?")
    tab.get_by_label("Answer").fill(" It slept.")
    tab.get_by_label("Dial δ").focus()
    for _ in range(3):
        tab.keyboard.press("ArrowRight")
    expect(tab.locator("#dial_value")).to_have_text("0.15")
    tab.get_by_role("button", name="Audit").click()
    frame = tab.frame_locator("#whole iframe")
    expect(frame.get_by_role("heading", level=1)).to_contain_text("Supported")
    frame.locator("[data-token]").last.click()  # its own script runs inside the sandbox

    tab.get_by_label("side by side").check()
    beside = tab.frame_locator("iframe[title*='before localising']")
    expect(beside.get_by_role("heading", level=1)).to_contain_text("Not faithful")

    with tab.expect_download() as saved:
        tab.get_by_role("link", name="JSON").click()
    assert '"answer":" It slept."' in saved.value.path().read_text(encoding="utf-8").replace('": "', '":"')

    tab.get_by_role("link", name="all audits").click()
    expect(tab.locator(".audits li")).to_contain_text(["supported"])
    expect(tab.locator(".audits li")).to_contain_text(["δ 0.15"])
    tab.locator(".audits a").click()
    expect(tab.locator("#whole iframe")).to_be_visible()


def test_script_in_a_prompt_stays_text(tab: Page, address: str) -> None:
    tab.goto(address)
    ask(tab, HOSTILE)
    expect(tab.frame_locator("#whole iframe").get_by_text("document.title").first).to_be_visible()
    for place in ("/", "/audits/3", "/audits/3/page"):
        tab.goto(address + place)
        assert tab.title() != "run"
    assert tab.evaluate("document.querySelectorAll('img').length") == 0


def test_every_click_of_a_rater_is_stored_at_once(tab: Page, address: str, database: Database) -> None:
    tab.goto(f"{address}/study")
    tab.get_by_label("Your name or code").fill("ann")
    tab.get_by_role("button", name="Begin, or go on").click()
    for label in "AB":
        page = tab.frame_locator(f"iframe[title='Page {label}']")
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        expect(page.get_by_text(re.compile("SmolLM2|quintic"))).to_have_count(0)
    clicks = [(label, scale.name) for scale in RUBRIC for label in "AB"]
    for count, (label, scale) in enumerate(clicks, 1):
        expect(tab.get_by_role("button", name="Next")).to_be_disabled()
        tab.locator(f"[data-label={label}][data-scale={scale}][value='{count % 5 + 1}']").check()
        expect(tab.locator("#stored")).to_have_text(f"{count} of 6 answered; all stored.")
        assert len(Answers(database).ratings()) == count
        if count == 3:
            tab.reload()
            expect(tab.locator("input:checked")).to_have_count(3)
    tab.get_by_label("Comment").fill("A is clearer.")
    tab.get_by_role("button", name="Next").click()
    expect(tab.locator("header")).to_contain_text("1 of 2 texts rated")
    assert [one["text"] for one in Answers(database).comments()] == ["A is clearer."]


@pytest.mark.parametrize("place", ["/", "/study", "/audits/3"])
def test_on_a_phone_nothing_is_cut_off(place: str, tab: Page, address: str) -> None:
    tab.goto(address)
    ask(tab, "A cat sat on the mat. " + "Averylongwordthatdoesnotfitintoaphone" * 3 + ". What did it do?")
    tab.goto(f"{address}/study")
    tab.get_by_label("Your name or code").fill("ann")
    tab.get_by_role("button", name="Begin, or go on").click()
    expect(tab.locator("#rate")).to_be_visible()
    tab.set_viewport_size(PHONE)
    tab.goto(address + place)
    assert fits(tab)
    for button in tab.get_by_role("button").all():
        assert button.bounding_box()["width"] <= PHONE["width"]
