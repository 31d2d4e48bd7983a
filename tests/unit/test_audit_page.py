"""The audit's page: whole, escaped, small enough, and its words and drawings those of the audit."""

import base64
import dataclasses
import hashlib
import html
import itertools
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from progloc.accounts.audit_page import page, scatter
from progloc.accounts.pictures import PICTURES
from progloc.accounts.terminal import audit_summary
from progloc.accounts.wording import EFFECTS, PICTURE_NAMES, VERDICTS, percent, signed
from progloc.report.printing import console
from progloc.schedules import NOT_LOCALISED
from synthetic_audit import synthetic_audit

HOSTILE = (
    "A </script><script>alert(1)</script> & \"b\" 'c' <!-- {{ 7 * 7 }} <img src=x onerror=alert(2)>\n\n  Second.\tEnd."
)


class Parsed(HTMLParser):
    """What a browser makes of a page: tags with their attributes, and the text in them."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.inside, self.texts = [], [], {}
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "input"}:
            self.inside.append(dict(attrs).get("id") or tag)

    def handle_endtag(self, tag):
        self.inside.pop()

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        for name in self.inside:
            self.texts[name] = self.texts.get(name, "") + data

    def attributes(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.mark.parametrize("verdict", VERDICTS)
def test_the_verdict_comes_first_then_its_reasons_then_the_text(verdict):
    audit = synthetic_audit(verdict=verdict)
    said = Parsed(page(audit)).texts
    body = " ".join(said["body"].split())
    parts = [VERDICTS[verdict].headline, VERDICTS[verdict].meaning, *audit.examined.reasons, "The text before it"]
    assert said["title"].startswith(verdict.capitalize())
    assert sorted(parts, key=body.index) == parts


def test_text_and_answer_stand_there_to_the_character():
    audit = synthetic_audit(HOSTILE, answer=" <b>x</b>\n y.", blocks=2)
    parsed = Parsed(page(audit))
    assert parsed.texts["prompt"] == audit.prompt == HOSTILE
    assert parsed.texts["answer"] == audit.answer


def test_nothing_in_a_text_becomes_markup():
    html = page(synthetic_audit(HOSTILE, answer=HOSTILE, base=True))
    plain = page(synthetic_audit("Harmless. End.", answer="Text.", base=True))
    parsed = Parsed(html)
    assert len(parsed.attributes("script")) == 2 == html.count("</script>")
    assert not parsed.attributes("img")
    assert {tag for tag, _ in parsed.tags} == {tag for tag, _ in Parsed(plain).tags}


def test_what_hides_or_reorders_text_is_named_wherever_the_text_stands():
    hidden = "\x00\x1b\x85\u200b\u202e\u2028\u2066\ufeff\U000e0041"
    shown = "".join(f"<U+{ord(each):04X}>" for each in hidden)
    html = page(synthetic_audit(f"One{hidden}. Two.", answer=f" So{hidden}."))
    texts = Parsed(html).texts
    assert texts["prompt"] == f"One{shown}. Two."
    assert texts["answer"] == f" So{shown}."
    assert json.loads(texts["data"])["blocks"][0]["excerpt"] == f"One{shown}."
    outside_data = re.sub(r'<script type="application/json".*?</script>', "", html, flags=re.DOTALL)
    assert not set(hidden) & set(outside_data)


def test_an_excerpt_says_that_it_is_one_however_many_blanks_a_block_has():
    html = page(synthetic_audit("word" + 60 * "\n    word" + "."))
    assert json.loads(Parsed(html).texts["data"])["blocks"][0]["excerpt"].endswith("…")


def test_the_document_is_in_it():
    audit = synthetic_audit(HOSTILE, base=True)
    data = json.loads(Parsed(page(audit)).texts["data"])
    assert data["audit"] == json.loads(json.dumps(audit.to_dict(heads=False)))
    assert len(data["blocks"]) == data["audit"]["blocks"]["count"]
    assert sum(block["share"] for block in data["blocks"]) == pytest.approx(1)


def test_its_policy_allows_its_own_style_and_script_and_nothing_else():
    html = page(synthetic_audit())
    (policy,) = re.findall(r'Content-Security-Policy" content="(.*?)"', html)
    own = [re.search(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)[1] for tag in ("style", "script")]
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in own]
    assert policy.replace("&#39;", "'") == (
        f"default-src 'none'; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'; "
        "base-uri 'none'; form-action 'none'"
    )
    assert not re.search(r"https?://|\bstyle=|\bon\w+=\"|url\(|@import", html)


def test_headings_go_down_one_level_at_a_time():
    levels = [int(tag[1]) for tag, _ in Parsed(page(synthetic_audit(base=True))).tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_its_size():
    audit = synthetic_audit(tokens=512, answer_tokens=64, blocks=24, layers=4, heads=9, base=True)
    assert len(page(audit).encode()) < 3 * 2**20


def test_blocks_that_come_again_are_one_block():
    audit = synthetic_audit("a b c d", answer="e", blocks=2)
    audit = dataclasses.replace(audit, block_ids=(0, 1, 0, 1, 2))
    runs = [each for each in Parsed(page(audit)).attributes("span") if "run" in each.get("class", "").split()]
    assert [run.get("data-block") for run in runs] == [None, "0", "1", "0", "1"]  # the answer stands first
    assert page(audit).count('<i class="share">') == 2


def test_a_block_without_letters_has_a_name_too():
    html = page(synthetic_audit("One. \n\n", blocks=2))
    assert [block["excerpt"] for block in json.loads(Parsed(html).texts["data"])["blocks"]][:2] == ["One.", "(blank)"]


def test_borders_drawn_with_the_whole_text_in_view_are_owned_up_to():
    assert "with the whole text in view" in page(synthetic_audit(causal=False))
    assert "with the whole text in view" not in page(synthetic_audit())


def test_characters_that_hide_are_seen():
    hidden = "Take\u202eten\u200b a\x1bday. \ufeffEnd."
    parsed = Parsed(page(synthetic_audit(hidden, answer="No\u2066.")))
    assert parsed.texts["prompt"] == "Take<U+202E>ten<U+200B> a<U+001B>day. <U+FEFF>End."
    assert parsed.texts["answer"] == "No<U+2066>."


def test_a_model_that_is_not_localised_is_said_not_to_be():
    audit = dataclasses.replace(synthetic_audit(base=True), schedule=NOT_LOCALISED)
    said = Parsed(page(audit)).texts["body"]
    assert "This model is not localised." in said
    assert "Not localised" in said
    assert "before localising" not in said.replace(Parsed(page(audit)).texts["data"], "").lower()
    assert "λ 0" not in said
    assert "Not localised" not in page(synthetic_audit(base=True))
    summary = console_text(audit_summary(audit))
    assert "SmolLM2-135M, localised is not localised" in summary


def test_the_answers_own_share_is_one_line_and_no_part_of_the_picture():
    audit = synthetic_audit()
    own = audit.examined.picture.answer_share["mass_no_sink"]
    assert f"{own:.1%} of all attention was on the answer's own words" in console_text(audit_summary(audit))
    data = json.loads(Parsed(page(audit)).texts["data"])
    shares = data["audit"]["mass_no_sink"]
    assert len(shares) == len(data["blocks"]) == audit.block_ids[audit.answer_start - 1] + 1
    assert sum(shares) == pytest.approx(1, abs=1e-3)
    assert data["audit"]["answer_share"]["mass_no_sink"] == pytest.approx(float(own), abs=1e-5)
    for place in (data["audit"]["layers"][0], data["audit"]["answer"][0]):
        assert np.asarray(place["mass_no_sink"]).sum(-1) == pytest.approx(1, abs=1e-3)


def console_text(rendered):
    with (shown := console()).capture() as capture:
        shown.print(rendered)
    return capture.get()


def test_the_model_before_localising_stands_beside():
    html = page(synthetic_audit(base=True))
    assert 'name="model"' in html
    assert html.count('class="scatter"') == 2
    assert 'name="model"' not in page(synthetic_audit())


def test_what_was_not_tested_is_not_said_to_be():
    html = page(synthetic_audit("One block.", verdict="weak"))
    assert "It could not be tested" in html
    assert "It was tested" not in html
    assert 'class="scatter"' not in html


def test_a_schedule_and_a_dial_by_layer_are_listed():
    audit = dataclasses.replace(synthetic_audit(), schedule=(0.0, 1.0), dial=(0.25, 0.5))
    assert "<td>0.00, 1.00</td>" in page(audit)
    assert "<td>0.25, 0.50</td>" in page(audit)
    by_head = dataclasses.replace(audit, schedule=((0.0, 0.5), (1.0, 1.0)))
    assert "<td>0.00, 0.50; 1.00, 1.00</td>" in page(by_head)


def test_the_table_of_tests_begins_with_the_most_mass():
    audit = synthetic_audit()
    rows = [int(each["data-block"]) for each in Parsed(page(audit)).attributes("tr") if "data-block" in each]
    assert rows == sorted(rows, key=lambda block: -audit.examined.picture.mass_no_sink[block])
    assert set(rows) == {each.block for each in audit.examined.tested}


def test_the_scatter_keeps_the_order_of_both_its_axes():
    examined = synthetic_audit(verdict="not faithful here").examined
    drawn = scatter(examined)
    by_block = {each.block: each.removal for each in examined.tested}
    assert {point.block: point.effect for point in drawn.points} == by_block
    right = sorted(drawn.points, key=lambda point: point.x)
    assert [point.mass for point in right] == sorted(point.mass for point in drawn.points)
    upwards = sorted(drawn.points, key=lambda point: -point.y)
    assert [point.effect for point in upwards] == sorted(by_block.values())
    assert sum(point.named for point in drawn.points) == 5
    assert all(drawn.left <= point.x <= drawn.right and drawn.top <= point.y <= drawn.bottom for point in drawn.points)


def test_a_scatter_of_nothing_found_is_drawn_too():
    examined = synthetic_audit().examined
    flat = tuple(dataclasses.replace(each, removal=0.0) for each in examined.tested)
    assert len({point.y for point in scatter(dataclasses.replace(examined, tested=flat)).points}) == 1


def test_every_picture_and_effect_has_its_words():
    assert set(PICTURE_NAMES) == set(PICTURES)
    assert set(EFFECTS) == {each.effect for each in synthetic_audit().examined.faithfulness.correlations}


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (percent(0.1234), "12%"), (percent(0.0123), "1.2%"), (percent(None), "–"), (percent(-0.5), "−50%"),
        (percent(0.0996), "10%"),
        (signed(-0.001), "0.00"), (signed(-1.005, 1), "−1.0"), (signed(None), "–"),
    ],
)  # fmt: skip
def test_numbers_in_words(written, expected):
    assert written == expected


def test_an_audit_is_a_table_of_blocks_and_a_page_in_a_notebook() -> None:
    audit = synthetic_audit()
    frame = audit.to_frame()
    assert "".join(frame["text"]) == "".join(audit.tokens[: audit.answer_start])
    assert frame["mass_no_sink"].sum() == pytest.approx(1.0)
    for tested in audit.examined.tested:
        assert frame.loc[tested.block, "removal"] == tested.removal
    untested = set(frame.index) - {tested.block for tested in audit.examined.tested}
    assert frame.loc[sorted(untested), "removal"].isna().all()
    assert audit.to_html() == page(audit)
    framed = audit._repr_html_()
    assert html.unescape(framed.split('srcdoc="')[1].split('"')[0]) == page(audit)
