"""The audit's page as a person has it: opened from disk in a real browser, clicked and typed at."""

import dataclasses
import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from progloc.accounts.audit_page import page
from progloc.accounts.schema import Audit
from progloc.accounts.wording import percent
from progloc.app.blinding import SYSTEMS, blinded
from synthetic_audit import synthetic_audit

pytestmark = pytest.mark.slow

HOSTILE = """</script><script>document.title = 'run'</script> & <img src=x onerror="document.title='run'">.

  Second. Third."""

Show = Callable[[Audit], Audit]
Open = Callable[..., Audit]


@pytest.fixture
def show(tab: Page, tmp_path: Path) -> Show:
    """`show(audit)`: open its page from disk, and return it."""

    def show(audit: Audit) -> Audit:
        path = tmp_path / "audit.html"
        path.write_text(page(audit), encoding="utf-8")
        tab.goto(path.as_uri())
        return audit

    return show


@pytest.fixture
def opened(show: Show) -> Open:
    """`opened(**changes)`: show a synthetic audit."""
    return lambda *args, **changes: show(synthetic_audit(*args, **changes))


def listed(tab: Page) -> list[int]:
    """The blocks in the ranked list."""
    return [int(button.get_attribute("data-block")) for button in tab.locator("#ranked button").all()]


def ranked(shares: np.ndarray) -> list[int]:
    return np.argsort(-shares, kind="stable")[:8].tolist()


def token(tab: Page, n: int):
    return tab.locator(f'[data-token="{n}"]')


def overflow(tab: Page) -> int:
    return tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


def test_it_opens_from_disk_and_asks_for_nothing_else(tab, opened):
    asked = []
    tab.on("request", lambda request: asked.append(request.url))
    audit = opened(base=True)
    tab.wait_for_load_state("networkidle")
    assert asked == [tab.url]
    assert tab.url.startswith("file:")
    expect(tab.get_by_role("heading", level=1)).to_contain_text("Supported")
    assert listed(tab) == ranked(audit.examined.picture.mass_no_sink)
    assert tab.locator("#ranked b").first.inner_text() == percent(audit.examined.picture.mass_no_sink.max())


def test_shade_and_share_follow_the_mass(tab, opened):
    mass = opened().examined.picture.mass_no_sink
    runs = tab.locator(".run[data-block]").evaluate_all(
        "runs => runs.map((run) => [run.dataset.block, run.style.getPropertyValue('--shade'),"
        " run.querySelector('.share').dataset.share])"
    )
    assert len(runs) == len(mass)
    for block, shade, share in runs:
        assert float(shade) == pytest.approx(0.85 * mass[int(block)] / mass.max(), abs=0.001)
        assert share == percent(mass[int(block)])


def test_the_top_blocks_show_their_share_and_the_others_when_pointed_at(tab, opened):
    mass = opened().examined.picture.mass_no_sink

    def visibility(block: int) -> str:
        mark = tab.locator(f'.run[data-block="{block}"] .share')
        return mark.evaluate("mark => getComputedStyle(mark, '::before').visibility")

    least = int(mass.argmin())
    assert [visibility(block) for block in (int(mass.argmax()), least)] == ["visible", "hidden"]
    tab.locator(f'.run[data-block="{least}"]').hover()
    assert visibility(least) == "visible"


def test_a_word_of_the_answer_shows_what_it_rested_on(tab, opened):
    audit = opened()
    whole = ranked(audit.examined.picture.mass_no_sink)
    token(tab, 7).click()
    assert listed(tab) == ranked(audit.examined.answer.mass_no_sink[7].mean(0).round(5))
    expect(tab.get_by_role("status").first).to_contain_text(f"“{audit.tokens[audit.answer_start + 7].strip()}”")
    expect(token(tab, 7)).to_have_attribute("aria-pressed", "true")
    token(tab, 7).click()
    assert listed(tab) == whole
    token(tab, 3).click()
    tab.keyboard.press("Escape")
    assert listed(tab) == whole
    token(tab, 3).click()
    tab.get_by_role("button", name="Whole answer").click()
    assert listed(tab) == whole
    expect(tab.get_by_role("button", name="Whole answer")).to_be_disabled()


def test_the_keyboard_alone_is_enough(tab, opened):
    audit = opened()
    for _ in range(30):
        tab.keyboard.press("Tab")
        if tab.evaluate("document.activeElement.matches('.token')"):
            break
    expect(token(tab, 0)).to_be_focused()
    tab.keyboard.press("ArrowRight")
    expect(token(tab, 1)).to_be_focused()
    expect(token(tab, 1)).to_have_attribute("aria-pressed", "true")
    tab.keyboard.press("End")
    assert listed(tab) == ranked(audit.examined.answer.mass_no_sink[-1].mean(0).round(5))
    tab.keyboard.press("Tab")  # one stop for the answer, the next is the text before it
    expect(tab.locator("#prompt .run").first).to_be_focused()
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("Enter")
    expect(tab.locator("#detail")).to_contain_text("Block 1:")
    tab.keyboard.press("Escape")
    expect(tab.locator("#detail")).to_be_empty()
    assert listed(tab) == ranked(audit.examined.picture.mass_no_sink)


@pytest.mark.parametrize(("label", "picture"), [("All attention", "mass"), ("Attention by what", "value_mass")])
def test_another_picture_is_one_choice_away(tab, opened, label, picture):
    audit = opened()
    tab.get_by_role("radio", name=label).check()
    assert listed(tab) == ranked(getattr(audit.examined.picture, picture))
    expect(tab.locator(f"#about-{picture}")).to_be_visible()
    expect(tab.locator("#about-mass_no_sink")).to_be_hidden()


def test_the_model_before_localising_is_too(tab, opened):
    audit = opened(base=True)
    expect(tab.locator('.layers[data-model="base"]')).to_be_hidden()
    tab.get_by_role("radio", name="Before localising").check()
    assert listed(tab) == ranked(audit.base.picture.mass_no_sink)
    expect(tab.locator('.layers[data-model="base"]')).to_be_visible()
    expect(tab.locator('.layers[data-model="examined"]')).to_be_hidden()


def test_a_layer_shades_the_text_and_opens_into_heads(tab, opened):
    audit = opened()
    card = tab.locator(".card").nth(1)
    card.locator("> .strip").click()
    assert listed(tab) == ranked(audit.examined.layers[1].picture.mass_no_sink)
    expect(card.get_by_role("button")).to_have_attribute("aria-pressed", "true")
    token(tab, 2).click()
    assert listed(tab) == ranked(audit.examined.answer.mass_no_sink[2, 1].round(5))
    tab.get_by_role("button", name="All traced layers").click()
    assert listed(tab) == ranked(audit.examined.answer.mass_no_sink[2].mean(0).round(5))
    card.get_by_text("3 heads").click()
    expect(card.locator(".heads .strip")).to_have_count(3)
    for head, strip in enumerate(card.locator(".heads .strip").all()):
        top = int(audit.examined.layers[1].heads.mass_no_sink[head].argmax())
        expect(strip).to_have_attribute("aria-label", re.compile(rf"^Head {head}: most on block {top} "))


def test_a_block_is_found_from_the_list_in_text_table_and_scatter(tab, opened):
    audit = opened(tokens=2000, blocks=80)
    top = ranked(audit.examined.picture.mass_no_sink)[0]
    button = tab.locator(f'#ranked [data-block="{top}"]')
    button.click()
    expect(tab.locator(f'.run[data-block="{top}"]')).to_be_in_viewport()
    for where in ("#ranked button", ".tested button", "#prompt .run"):
        expect(tab.locator(f'{where}[data-block="{top}"]')).to_have_attribute("aria-pressed", "true")
    expect(tab.locator(f'circle[data-block="{top}"]')).to_have_class("pinned")
    expect(tab.locator("#detail")).to_contain_text(f"Block {top}: {percent(audit.examined.picture.mass_no_sink[top])}")
    expect(tab.locator("#detail")).to_contain_text("times less likely")
    expect(button).to_be_focused()


def test_a_script_in_a_text_stays_text(tab, opened):
    audit = opened(HOSTILE, answer=HOSTILE, base=True)
    assert tab.locator("#prompt").text_content() == audit.prompt
    assert tab.locator("#answer").text_content() == audit.answer
    token(tab, 1).click()
    tab.locator("#ranked button").first.click()
    assert tab.title() == "Supported: what an answer rested on"
    assert tab.locator("script").count() == 2
    assert tab.locator("img").count() == 0


def test_what_hides_in_a_text_is_named_wherever_the_page_repeats_it(tab, opened):
    opened("Is \u202erebmun\u202c one.\x1b Two.", answer=" No\u200bt.")
    assert tab.locator("#prompt").inner_text() == "Is <U+202E>rebmun<U+202C> one.<U+001B> Two."
    token(tab, 0).click()
    expect(tab.get_by_role("status").first).to_contain_text("The token “No<U+200B>t.” alone")
    expect(tab.locator("#ranked")).to_contain_text("Is <U+202E>rebmun<U+202C> one.<U+001B>")


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_raters_page_works_without_what_it_does_not_hold(tab, show, system):
    audit = show(blinded(synthetic_audit(base=True), system))
    assert listed(tab) == ranked(audit.examined.picture.mass_no_sink)
    token(tab, 7).click()
    assert listed(tab) == ranked(audit.examined.answer.mass_no_sink[7, 0].round(5))
    expect(tab.get_by_role("status").first).to_contain_text("alone: most on block")
    tab.locator("#ranked button").first.click()
    expect(tab.locator("#detail p")).to_have_count(1)
    for absent in ("form", ".layers", "table", "#own"):
        assert tab.locator(absent).count() == 0, absent


def test_blanks_and_line_breaks_are_seen(tab, opened):
    opened("One.\n\n\nTwo   three.", answer=" Yes.")
    assert tab.locator("#prompt").inner_text() == "One.\n\n\nTwo   three."


@pytest.mark.parametrize(
    ("text", "name"), [("\n", "line break"), (" ", "blank"), ("", "part of a character")], ids=repr
)
def test_a_token_without_letters_can_be_clicked_too(tab, show, text, name):
    audit = synthetic_audit()
    tokens = list(audit.tokens)
    tokens[audit.answer_start + 1] = text
    show(dataclasses.replace(audit, tokens=tuple(tokens)))
    token(tab, 1).click()
    expect(token(tab, 1)).to_have_attribute("aria-pressed", "true")
    expect(tab.get_by_role("status").first).to_contain_text(f"The token {name} alone")


def test_a_phone_needs_no_scrolling_sideways(tab, show):
    tab.set_viewport_size({"width": 400, "height": 800})
    audit = synthetic_audit("A" * 300 + ". Second sentence here. Third.", base=True, layers=4, heads=9)
    nowhere = dataclasses.replace(audit.examined, model="/a/folder" * 20, reasons=("B" * 300,))
    show(dataclasses.replace(audit, examined=nowhere))
    token(tab, 2).click()
    for summary in tab.locator(".layers:not([hidden]) summary").all():
        summary.click()
    assert overflow(tab) <= 0


def test_it_prints_everything_but_the_controls(tab, opened):
    opened(base=True, tokens=1000)
    cut = "box => box.lastElementChild.getBoundingClientRect().bottom > box.getBoundingClientRect().bottom"
    assert tab.locator("#prompt").evaluate(cut)
    tab.emulate_media(media="print")
    assert not tab.locator("#prompt").evaluate(cut)
    for hidden in (".controls", "#whole", "#how"):
        expect(tab.locator(hidden)).to_be_hidden()
    for shown in ("#status", "#ranked", '.layers[data-model="base"]', ".tested >> nth=1"):
        expect(tab.locator(shown)).to_be_visible()
    assert tab.pdf(print_background=True).startswith(b"%PDF")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_legible_on_the_fullest_shade(tab, opened, scheme):
    tab.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    top = int(opened().examined.picture.mass_no_sink.argmax())
    ink, shade = tab.locator(f'.run[data-block="{top}"]').evaluate(
        "run => [getComputedStyle(run).color, getComputedStyle(run).backgroundColor]"
    )
    paper = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    ink, shade, paper = ([float(x) for x in re.findall(r"[\d.]+", colour)] for colour in (ink, shade, paper))
    assert shade[3] == 0.85
    behind = [shade[3] * x + (1 - shade[3]) * y for x, y in zip(shade, paper, strict=False)]
    dark, bright = sorted((luminance(ink), luminance(behind)))
    assert (bright + 0.05) / (dark + 0.05) >= 4.5  # WCAG 2.2, AA


def luminance(colour: list[float]) -> float:
    """Relative luminance by WCAG's definition."""
    channels = [x / 255 for x in colour[:3]]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in channels]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def test_eight_thousand_tokens_stay_responsive(tab, opened, capsys):
    opened(tokens=8192, answer_tokens=64, blocks=320, layers=4, heads=9, base=True)
    began = time.perf_counter()
    token(tab, 40).click()
    tab.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    seconds = time.perf_counter() - began
    expect(token(tab, 40)).to_have_attribute("aria-pressed", "true")
    with capsys.disabled():
        print(f"[8,256 tokens, 321 blocks: {1000 * seconds:.0f} ms from click to paint]", end=" ")
    assert seconds < 3  # it only has to tell apart what is usable from what is not
