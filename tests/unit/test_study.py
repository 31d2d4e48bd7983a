"""The study: what raters see, what is kept of their clicks, and what the ratings come to."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from html import escape
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient

from command_line import progloc, refused
from progloc import LocalityConfig, localize
from progloc.accounts.audit_page import page
from progloc.accounts.pictures import Picture
from progloc.accounts.verdict import VERDICTS
from progloc.app.application import create_app
from progloc.app.blinding import SYSTEMS, alone, blinded
from progloc.app.database import Database
from progloc.app.jobs import Progress
from progloc.app.ratings import krippendorff_alpha, rating_result, rating_tables
from progloc.app.requests import AuditRequest, Limits
from progloc.app.server import auditor, read_prompts
from progloc.app.survey import LABELS, POINTS, RUBRIC, Answers
from progloc.errors import ProglocError
from stand_in_server import BASE, MODEL, stand_in
from synthetic_audit import synthetic_audit
from wired_models import words_tokenizer

PROMPTS = tuple(f"A cat sat {where}. It was warm. What did it do?" for where in ("here", "there", "nowhere"))
QUESTIONS = tuple(product(LABELS, (scale.name for scale in RUBRIC)))


@contextmanager
def served(path: Path, **options: Any) -> Iterator[TestClient]:
    options = {"run_audit": stand_in, "base": BASE, "model": MODEL, "study": PROMPTS, **options}
    with closing(Database(path)) as database:
        app = create_app(database=database, **options)
        with TestClient(app, base_url="http://127.0.0.1") as client:
            items = Answers(database).items
            while options["run_audit"] is stand_in and any(item.state != "done" for item in items()):
                time.sleep(0.01)
            yield client


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "study.sqlite"


@pytest.fixture
def client(data: Path) -> Iterator[TestClient]:
    with served(data) as client:
        yield client


def enter(client: TestClient, name: str) -> str:
    """Sign in, and return the page that comes."""
    client.cookies.clear()
    assert client.post("/study/rater", json={"name": name}).status_code == 200
    return client.get("/study").text


def item_of(page: str) -> int:
    found = re.search(r'data-item="(\d+)"', page)
    assert found, page
    return int(found[1])


def click(client: TestClient, item: int, label: str, scale: str, score: int) -> Any:
    return client.post("/study/ratings", json={"item": item, "label": label, "scale": scale, "score": score})


def rate_all(client: TestClient, name: str, score: int = 3) -> list[int]:
    shown = []
    while 'id="rate"' in (page := enter(client, name)):
        shown.append(item_of(page))
        for label, scale in QUESTIONS:
            assert click(client, shown[-1], label, scale, score).status_code == 200
    assert "Thank you" in page
    return shown


def ratings_of(client: TestClient) -> list[dict[str, Any]]:
    return client.get("/study/study.json").json()["ratings"]


SENTINEL = "Sentinel"
SHOWN = ("prompt", "answer", "tokens", "block_ids", "answer_start", "blocks", "causal")
"""Of an audit, what is of both models and may be on a rater's page; and then the shares of its picture."""


def changed(value: Any, name: str = "") -> Any:
    """Return an audit of another model on the same text whose picture happens to be the same, and nothing else is."""
    if name in SHOWN or value is None:
        return value
    if isinstance(value, Picture):
        whole = 0.5 * value.with_answer  # the same shares
        whole[[0, 2]] = value.with_answer[[0, 2]][..., ::-1]
        whole[:, ..., -1] = 0.25
        return Picture(whole)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return type(value)(**{name: changed(each, name) for name, each in fields.items()})
    if isinstance(value, tuple):
        return tuple(map(changed, value))
    if isinstance(value, dict):
        return {key: changed(each) for key, each in value.items()}
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return value if name in ("picture", "effect") else SENTINEL  # by these a correlation is found
    return value * 0.75 + 1 if isinstance(value, np.ndarray | float) else value + 7


def markup(page: str) -> str:
    """Return a page without its style and its script."""
    return re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.DOTALL)


class TestBlinding:
    def test_alone_is_an_audit_of_that_model(self) -> None:
        audit = synthetic_audit(base=True)
        assert audit.base is not None
        assert alone(audit, "base").verdict == audit.base.verdict
        assert alone(audit, "localised").examined == audit.examined
        with pytest.raises(ProglocError, match="'base' of an audit that holds localised"):
            alone(alone(audit, "base"), "base")

    def test_two_blinded_audits_differ_in_findings_alone(self) -> None:
        audit = synthetic_audit(base=True)
        a, b = (blinded(audit, system).to_dict() for system in SYSTEMS)
        for one in (a, b):
            for found in ("layers", "answer", "sink_mass"):
                del one[found]
            for picture in ("mass", "mass_no_sink", "value_mass", "answer_share"):
                del one[picture]
        assert a == b

    @pytest.mark.parametrize("system", SYSTEMS)
    def test_nothing_reaches_a_page_but_the_text_its_blocks_and_one_picture(self, system: str) -> None:
        audit = synthetic_audit(base=True)
        other = changed(audit)
        assert alone(other, system).examined.picture.mass_no_sink == pytest.approx(
            alone(audit, system).examined.picture.mass_no_sink
        )
        for name in ("answer_share", "sink_mass", "layers", "tested", "faithfulness", "reasons"):
            a, b = (alone(each, system).examined.to_dict(heads=False)[name] for each in (audit, other))
            assert a != b, name
        assert blinded(other, system).to_json() == blinded(audit, system).to_json()
        assert page(blinded(other, system)) == page(blinded(audit, system))
        assert SENTINEL not in page(blinded(other, system))
        assert SENTINEL in alone(other, system).to_json()

    @pytest.mark.parametrize("system", SYSTEMS)
    def test_no_number_of_a_page_tells_how_local_or_how_sure_its_model_is(self, system: str) -> None:
        told = markup(page(blinded(synthetic_audit(base=True), system)))
        assert re.findall(r"[\d.]+%", told) == ["100%"]  # what all shares are together
        assert not re.search(r"[Ll]ayer \d|sink [\d−]|own words had|guarantees|given, not written", told)

    @pytest.mark.parametrize("system", SYSTEMS)
    def test_no_name_is_left_on_the_page(self, system: str) -> None:
        text = page(blinded(synthetic_audit(base=True), system))
        for name in ("SmolLM2", "quintic", "f00d", "0.0-synthetic", "12.3"):
            assert name in page(synthetic_audit(base=True)), name
            assert name not in text, name

    @pytest.mark.parametrize("verdict", VERDICTS)
    def test_neither_verdict_nor_tests_are_on_the_page(self, verdict: str) -> None:
        audit = synthetic_audit(base=True, verdict=verdict)
        judging = (
            *VERDICTS,
            "How the picture was tested",
            "Knockout",
            "score margin",
            "λ",
            *map(escape, audit.examined.reasons),
        )
        judged = markup(page(audit))
        assert verdict in judged
        assert all(said in judged for said in judging if said not in VERDICTS)
        for system in SYSTEMS:
            shown = markup(page(blinded(audit, system)))
            assert not [said for said in judging if said in shown]
            assert '"tested":[]' in shown

    def test_raters_browsers_are_told_nothing(self, client: TestClient) -> None:
        item = item_of(enter(client, "ann"))
        paths = ["/study", f"/study/items/{item}", *(f"/study/items/{item}/{label}" for label in LABELS)]
        answers = [client.get(path) for path in paths]
        answers.append(click(client, item, "A", "usefulness", 3))
        answers.append(client.get("/study/items/99"))
        rate_all(client, "ann")
        answers.append(client.get("/study"))
        for answer in answers:
            told = answer.text + str(answer.headers) + str(answer.url)
            for name in (MODEL, BASE, "quintic", "SmolLM2"):
                assert name not in told, (answer.url, name)
            if "/study/items/" not in str(answer.url):  # an audit's own script knows both words, of either model
                assert not re.search(r"localis|\bbase\b(?!-uri)", told), answer.url

    def test_an_items_audit_is_not_to_be_had_unblinded(self, client: TestClient) -> None:
        for path in ("page", "audit.json", "state", "page/base"):
            assert client.get(f"/audits/1/{path}").status_code == 404
        assert "A cat sat" not in client.get("/").text


@pytest.mark.slow
class TestOrder:
    @pytest.mark.slow
    def test_which_is_a_is_drawn_for_each_rater_and_item_and_stays(self, data: Path) -> None:
        with served(data, study=[f"{PROMPTS[0]} {n}" for n in range(5)]) as client:
            for name in ("ann", "bob", "cleo"):
                rate_all(client, name)
            first = {(one["rater"], one["item"]): one["system"] for one in ratings_of(client) if one["shown_as"] == "A"}
        assert len(first) == 15
        by_rater = [tuple(first[name, item] for item in range(1, 6)) for name in ("ann", "bob", "cleo")]
        assert len(set(by_rater)) == 3
        assert all(set(drawn) == set(SYSTEMS) for drawn in by_rater)

    def test_the_page_called_a_is_the_one_that_is_stored_for_a(self, data: Path) -> None:
        with served(data) as client:
            shown = {}
            for name in ("ann", "bob", "cleo", "dan", "eve"):
                item = item_of(enter(client, name))
                shown[name] = (item, client.get(f"/study/items/{item}/A").text)
                click(client, item, "A", "usefulness", 4)
            stored = {one["rater"]: (one["item"], one["system"]) for one in ratings_of(client)}
        assert {system for _, system in stored.values()} == set(SYSTEMS)
        for name, (item, system) in stored.items():
            expected = blinded(stand_in(AuditRequest(prompt=PROMPTS[item - 1]), Progress(60)), system)
            assert shown[name] == (item, page(expected))

    def test_items_come_in_another_order_to_each_rater(self, client: TestClient) -> None:
        orders = {tuple(rate_all(client, name)) for name in ("ann", "bob", "cleo", "dan")}
        assert len(orders) > 1
        assert all(sorted(order) == [1, 2, 3] for order in orders)


@pytest.mark.slow
class TestClicks:
    def test_a_rater_goes_on_where_they_stopped(self, data: Path) -> None:
        with served(data) as client:
            item = item_of(enter(client, "ann"))
            click(client, item, "A", "usefulness", 2)
            click(client, item, "B", "completeness", 5)
        with served(data) as client:
            text = enter(client, " ann  ")
            assert item_of(text) == item
            checked = re.findall(r'data-label="(\w)" data-scale="(\w+)" value="(\d)"[^>]*checked', text)
        assert checked == [("A", "usefulness", "2"), ("B", "completeness", "5")]

    @pytest.mark.slow
    def test_a_changed_mind_counts_and_no_click_is_lost(self, data: Path) -> None:
        with served(data) as client:
            item = item_of(enter(client, "ann"))
            answers = [click(client, item, "A", "usefulness", score).json() for score in (2, 4)]
            assert [one["score"] for one in ratings_of(client)] == [4]
        assert answers == [{"answered": 1, "questions": 6}] * 2
        with closing(Database(data)) as database:
            assert [row["score"] for row in database.read("SELECT score FROM clicks ORDER BY id")] == [2, 4]

    def test_a_click_that_is_none_is_refused(self, client: TestClient) -> None:
        item = item_of(enter(client, "ann"))
        click = {"item": item, "label": "A", "scale": "usefulness", "score": 3}
        for change in (
            {"score": 6}, {"score": 0}, {"score": "3"}, {"scale": "beauty"}, {"label": "C"}, {"label": "base"},
        ):  # fmt: skip
            assert client.post("/study/ratings", json=click | change).status_code == 422, change
        assert client.post("/study/ratings", json=click | {"item": 99}).status_code == 404
        assert ratings_of(client) == []

    def test_who_has_not_signed_in_rates_nothing(self, client: TestClient) -> None:
        item = item_of(enter(client, "ann"))
        client.cookies.clear()
        assert click(client, item, "A", "usefulness", 3).status_code == 403
        assert client.get(f"/study/items/{item}/A").status_code == 403
        assert ratings_of(client) == []

    def test_a_name_that_is_none_is_refused(self, client: TestClient) -> None:
        for name in ("", "  ", "x" * (Limits().name_characters + 1), "a\x00b", 5):
            assert client.post("/study/rater", json={"name": name}).status_code == 422, name

    def test_comments_are_kept_and_text(self, client: TestClient) -> None:
        item = item_of(enter(client, "<b>ann</b>"))
        for text in ("first", "<script>alert(1)</script> 👩\u200d👧"):
            assert client.post("/study/comments", json={"item": item, "text": text}).status_code == 200
        shown = client.get("/study").text
        assert "<script>alert" not in shown
        assert "&lt;script&gt;alert(1)&lt;/script&gt; 👩\u200d👧</textarea>" in shown  # as typed, to go on from
        assert "<b>ann" not in shown
        assert [one["text"] for one in client.get("/study/study.json").json()["comments"]] == [text]
        long = client.post("/study/comments", json={"item": item, "text": "x" * (Limits().comment_characters + 1)})
        assert long.status_code == 413


class TestWriters:
    @pytest.mark.slow
    def test_each_system_writes_half_of_the_answers_and_who_did_is_exported(self, data: Path) -> None:
        asked: dict[str, str] = {}

        def run(request: AuditRequest, progress: Progress) -> Any:
            asked[request.prompt] = request.writer
            return stand_in(request, progress)

        prompts = [f"{PROMPTS[0]} {n}" for n in range(8)]
        with served(data, study=prompts, run_audit=run) as client:
            while {item["audit"] for item in client.get("/study/study.json").json()["items"]} != {"done"}:
                time.sleep(0.01)
            rate_all(client, "ann")
            rows = list(csv.DictReader(io.StringIO(client.get("/study/ratings.csv").text)))
            document = client.get("/study/study.json").json()
        assert sorted(asked.values()) == sorted(SYSTEMS * 4)
        assert len({tuple(asked[prompt] for prompt in prompts[n : n + 2]) for n in range(0, 8, 2)}) == 2
        assert {item["prompt"]: item["writer"] for item in document["items"]} == asked
        for row in (*rows, *document["ratings"]):
            assert row["writer"] == asked[prompts[int(row["item"]) - 1]]

    def test_the_writer_writes(self, tiny_gpt2: Callable[..., Any]) -> None:
        tokenizer = words_tokenizer(101)
        config = LocalityConfig(blocks="fixed:4")
        models = {system: localize(tiny_gpt2(), config, tokenizer) for system in SYSTEMS}
        with torch.no_grad():
            models["base"].lm_head.weight.copy_(models["base"].lm_head.weight.roll(7, 0))
        run = auditor(models["localised"], models["base"], tokenizer)
        prompt = " ".join(f"w{n}" for n in range(3, 23))
        ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
        asked = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 5, "do_sample": False}
        audits = {}
        for writer in SYSTEMS:
            audits[writer] = audit = run(AuditRequest(prompt=prompt, max_new_tokens=5, writer=writer), Progress(60))
            written = models[writer].generate(ids, **asked)[0, ids.shape[1] :]
            assert audit.answer.split() == tokenizer.decode(written).split()
            assert audit.given == (writer == "base")
            assert audit.base is not None
        assert audits["localised"].answer != audits["base"].answer

    def test_what_is_typed_in_is_answered_by_the_localised_model(self, client: TestClient) -> None:
        assert AuditRequest(prompt="A prompt.").writer == "localised"
        assert client.post("/audits", json={"prompt": "A prompt.", "writer": "base"}).status_code == 422


@pytest.mark.slow
class TestItems:
    def test_audits_are_made_behind_what_people_wait_for_and_items_come_when_ready(self, data: Path) -> None:
        asked: list[str] = []

        def slow(request: AuditRequest, progress: Progress) -> Any:
            asked.append(request.prompt)
            time.sleep(0.1)
            return stand_in(request, progress)

        with served(data, run_audit=slow) as client:
            client.post("/audits", json={"prompt": "now"})
            assert "being prepared" in enter(client, "ann")
            while len(asked) < 4:
                time.sleep(0.01)
        assert asked.index("now") <= 1

    def test_a_second_start_makes_no_audit_again(self, data: Path) -> None:
        def never(request: AuditRequest, progress: Progress) -> Any:
            raise AssertionError

        with served(data):
            pass
        with served(data, run_audit=never) as client:
            assert item_of(enter(client, "ann"))

    def test_a_study_of_other_models_is_refused(self, data: Path) -> None:
        with served(data):
            pass
        with pytest.raises(ProglocError, match="holds a study of runs/quintic"), served(data, model="other"):
            pass

    def test_prompts_are_paragraphs(self, tmp_path: Path) -> None:
        (tmp_path / "prompts.txt").write_text("\n\none\nline two\n \n\ntwo\n\none\nline two\n")
        assert read_prompts(tmp_path / "prompts.txt", Limits()) == ["one\nline two", "two"]
        with pytest.raises(ProglocError, match="no file at"):
            read_prompts(tmp_path / "none.txt", Limits())


def test_the_export_holds_every_rating(client: TestClient) -> None:
    rate_all(client, "=cmd()", 5)
    rows = list(csv.DictReader(io.StringIO(client.get("/study/ratings.csv").text)))
    document = client.get("/study/study.json").json()
    assert len(rows) == len(document["ratings"]) == len(PROMPTS) * len(QUESTIONS)
    assert {row["rater"] for row in rows} == {"'=cmd()"}
    assert {row["system"] for row in rows} == set(SYSTEMS)
    assert {row["verdict"] for row in rows} <= set(VERDICTS)
    assert document["systems"] == {"localised": MODEL, "base": BASE}
    assert [item["prompt"] for item in document["items"]] == list(PROMPTS)


def test_every_point_of_the_rubric_is_anchored() -> None:
    assert [scale.name for scale in RUBRIC] == ["usefulness", "completeness", "trustworthiness"]
    for scale in RUBRIC:
        assert len(set(scale.anchors)) == len(POINTS)
        assert all(anchor.endswith(".") for anchor in scale.anchors)


class TestAgreement:
    def test_by_hand_with_missing_ratings(self) -> None:
        """Pairs within units u: (1,2), (3,3,4), (2,2); w is rated once and counts for nothing.

        Each unit's sum of squared differences over ordered pairs ÷ (its ratings − 1): 2/1 + 4/2 + 0/1 = 4, so over 7
        ratings D_o = 4/7. The seven are 1, 2, 2, 2, 3, 3, 4: mean 17/7, Σx² = 47, so over ordered pairs
        2 · (7 · 47 − 17²) = 80 ÷ (7 · 6) = D_e. α = 1 − (4/7) ÷ (80/42) = 0.7.
        """
        given = [
            ("ann", "u", 1), ("bob", "u", 2),
            ("ann", "v", 3), ("bob", "v", 3), ("cleo", "v", 4),
            ("bob", "x", 2), ("cleo", "x", 2),
            ("cleo", "w", 5),
        ]  # fmt: skip
        assert krippendorff_alpha(given) == pytest.approx(0.7)

    def test_without_its_library(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "nltk.metrics.agreement", None)
        with pytest.raises(ProglocError, match=r"pip install 'progloc\[app\]'"):
            krippendorff_alpha([])

    def test_the_ends(self) -> None:
        assert krippendorff_alpha([("a", "u", 1), ("b", "u", 1), ("a", "v", 5), ("b", "v", 5)]) == pytest.approx(1.0)
        assert krippendorff_alpha([("a", "u", 1), ("b", "u", 5), ("a", "v", 5), ("b", "v", 1)]) == pytest.approx(-0.5)

    @pytest.mark.parametrize(
        "given", [[], [("a", "u", 1)], [("a", "u", 1), ("a", "v", 5)], [("a", "u", 3), ("b", "u", 3), ("a", "v", 1)]]
    )
    def test_nothing_to_agree_about(self, given: list[tuple[str, str, int]]) -> None:
        assert krippendorff_alpha(given) is None


def invented(differences: dict[tuple[str, int], int], base: int = 2) -> list[dict[str, Any]]:
    """Ratings whose localised ones are so many points above the base's, on every scale."""
    return [
        {"rater": rater, "item": item, "system": system, "verdict": VERDICTS[item % 2], "scale": scale.name,
         "score": base + (more if system == "localised" else 0)}
        for (rater, item), more in differences.items() for system in SYSTEMS for scale in RUBRIC
    ]  # fmt: skip


class TestResult:
    def test_means_and_differences_are_over_items_and_over_raters(self) -> None:
        found = rating_result(invented({("a", 1): 1, ("b", 1): 2, ("a", 2): 3, ("b", 2): 1}))
        assert (found.ratings, found.raters, found.items) == (24, 2, 2)
        scale = found.scales[0]
        assert scale.means["base"].mean == 2
        assert scale.means["localised"].mean == pytest.approx(3.75)
        assert scale.by_item.estimate.mean == scale.by_rater.estimate.mean == pytest.approx(1.75)
        assert scale.by_item.estimate.n == 2
        # items: 1.5 and 2; raters: 2 and 1.5. t(1) = 12.706, standard error 0.25
        assert scale.by_item.estimate.low == pytest.approx(1.75 - 12.706 * 0.25, abs=1e-3)

    def test_a_rating_without_its_counterpart_enters_no_mean(self) -> None:
        ratings = invented({("a", 1): 1, ("a", 2): 2})
        lone = {**ratings[0], "rater": "b", "score": 5}
        assert rating_result([*ratings, lone]).scales[0].means == rating_result(ratings).scales[0].means

    def test_a_difference_is_found_only_where_items_and_raters_show_it(self) -> None:
        def among(raters: dict[str, int]) -> Any:
            noise = {1: 0, 2: 1, 3: 0, 4: 1, 5: 0, 6: 1}
            return rating_result(
                invented({(who, i): more + n for who, more in raters.items() for i, n in noise.items()})
            )

        alike = among({"a": 1, "b": 1, "c": 2, "d": 2}).scales[0]
        assert alike.higher == "localised"
        split = among({"a": 2, "b": -1, "c": 2, "d": 0}).scales[0]
        assert split.by_item.estimate.above(0.0)
        assert split.higher is None

    def test_scores_are_set_beside_the_verdict_that_raters_were_not_shown(self) -> None:
        """Item 1 has 2 and 4 (weak), items 2 and 4 have 2, 3, 2, 5 (supported), however many raters a picture has."""
        found = rating_result(invented({("a", 1): 2, ("b", 1): 2, ("a", 2): 1, ("b", 2): 1, ("c", 2): 1, ("a", 4): 3}))
        by_verdict = found.scales[0].by_verdict
        means = {verdict: (each.mean, each.n) for verdict, each in by_verdict.items()}
        assert means == {"weak": (3, 2), "supported": (3, 4)}
        table = rating_tables(found)[-1]
        assert [column.label for column in table.columns] == ["scale", "supported", "weak"]
        assert table.rows[0][1].endswith("(4)")

    def test_one_half_rated_says_what_to_do(self) -> None:
        with pytest.raises(ProglocError, match="nobody has rated both pages of an item for usefulness yet"):
            rating_result([])


class TestCommand:
    @pytest.mark.slow
    def test_tables_and_json(self, data: Path) -> None:
        with served(data) as client:
            for name, score in (("ann", 2), ("bob", 4)):
                rate_all(client, name, score)
        shown = progloc("study", str(data), cwd=data.parent)
        assert shown.returncode == 0, shown.stderr
        assert "36 ratings, 2 raters, 3 items" in shown.stdout
        found = json.loads(progloc("study", str(data), "--json", cwd=data.parent).stdout)
        assert found["scales"][0]["by_item"]["estimate"] == {"mean": 0.0, "low": 0.0, "high": 0.0, "n": 3}
        assert found["scales"][0]["higher"] is None

    def test_what_is_refused(self, data: Path) -> None:
        assert "no file at" in refused(progloc("study", str(data), cwd=data.parent))
        assert not data.exists()
        data.write_text("something else, and long enough")
        assert "cannot be used" in refused(progloc("study", str(data), cwd=data.parent))
        serve = ("serve", "no/model", "--port", "0")
        assert "--study without a model to compare with" in refused(
            progloc(*serve, "--study", str(data), cwd=data.parent)
        )
        assert "--allow-remote" in refused(progloc(*serve, "--host", "0.0.0.0", cwd=data.parent))
        assert "'scratch:tiny' is made while training" in refused(progloc("serve", "scratch:tiny", cwd=data.parent))
