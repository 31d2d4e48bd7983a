"""Partitioners that read the text: gold passages, hand-made cases, and what every tokenizer may do to offsets."""

import json
import re
import runpy
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from page_numbers import figures_of, tables
from progloc.blocks import TokenisedText, parsed, partitioner
from progloc.blocks.entities import entities_by_rule
from progloc.blocks.spans import token_places
from progloc.errors import ProglocError

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "benchmarks"))
gold, libraries, speed = (
    SimpleNamespace(**runpy.run_path(str(ROOT / "benchmarks" / f"{name}.py")))
    for name in ("score_boundaries", "sentence_libraries", "partition_speed")
)
sys.path.pop()


def cut(name: str, text: str) -> str:
    """The text with | where blocks open."""
    found = gold.found_openings(partitioner(name), text)
    return gold.marked(partitioner(name), gold.Passage("", text, found))


def check(name: str, marked: str) -> None:
    assert cut(name, marked.replace("|", "")) == marked


@pytest.mark.parametrize(
    ("name", "held_out", "precision", "recall"),
    [
        ("sentences", False, 0.99, 0.98),
        ("sentences", True, 0.95, 0.96),
        ("phrases", False, 0.91, 0.70),
        ("phrases", True, 0.95, 0.64),
        ("phrases:punctuation", False, 0.93, 0.37),
        ("phrases:punctuation", True, 0.97, 0.21),
    ],
)
def test_boundaries_are_those_of_the_gold_passages(name, held_out, precision, recall):
    passages = [p for p in gold.read_gold(gold.SCORED[name]) if p.name.startswith(gold.HELD_OUT) == held_out]
    reached = gold.score(partitioner(name), passages)
    assert precision <= reached.precision
    assert recall <= reached.recall


def test_scores_are_counted_as_they_are_defined():
    whole = gold.Passage("", "a b c d", frozenset({2, 4}))
    reached = gold.score(partitioner("fixed:1"), [whole])
    assert (reached.found, reached.right, reached.gold) == (3, 2, 2)
    assert (reached.precision, reached.recall, reached.f1) == pytest.approx((2 / 3, 1, 0.8))


def test_the_page_has_the_scores_and_examples_of_the_code():
    page = gold.PAGE.read_text(encoding="utf-8")
    assert figures_of(page) == figures_of(gold.page())
    assert gold.examples() in page


def test_the_page_has_the_numbers_kept_of_libraries_and_they_are_those_of_the_rule():
    rows = json.loads(libraries.MEASURED.read_text(encoding="utf-8"))
    assert tables(libraries.table(rows))[0] in tables(gold.PAGE.read_text(encoding="utf-8"))
    passages = [passage for passage in gold.read_gold("sentences") if passage.name.startswith(gold.HELD_OUT)]
    reached = gold.score(partitioner("sentences"), passages)
    assert rows[0]["held_out"].items() >= {"found": reached.found, "right": reached.right, "gold": reached.gold}.items()


@pytest.mark.parametrize(
    "marked",
    [
        "He saw Dr. Lee. |She saw him.",
        "It cost 3.50 at example.com. |Cheap.",
        'He said "No." |Then he left.',
        "See vol. 2. |Then vol. 3.",
        "1. Open it. |2. Close it.",
        "I was there at 5 p.m. |So was J. Lee.",
        "No (really!) it is. |Yes […] it is.",
        "Next? |¿Qué? |Sí. |यह है। |और यह।",
        "見て。|「はい。」と言った。|え？|うん",
        "Well done! 👏 |Go on.",
    ],
)
def test_sentences(marked):
    check("sentences", marked)


@pytest.mark.parametrize(
    "marked",
    [
        # before a number, a bracket or a capital
        "Take 3 tabs. |Dose: max. 4 g (approx. 60 mg/kg), cf. pp. 3-4, Nos. 5 and 6, para. 9. |Stop.",
        "Sold to Kern Co. (the “Agent”) and Vale Ltd. [sic]. |Acme Corp. Asia agrees.",
        "By Acme Corp. |It is big. |Sold in the U.S. |The U.S. Army buys it at 5 p.m. Friday, at 6 p.m. |He waits.",
        "It was plan B. |We like it. |J. B. Hill and C. Ito do not.",
        "It is . . . I forget. . . . |He went on.",
        "It costs 3.5. |It was 12. |Then 9. |See https://a.org/b. |Go.",
        # footnote marks
        "It fell in 1920.[1][2] |“Why?”[3] |Then (see below).[note 4] |It rose.[a] |Done.",
        "It fell.¹² |He left.* |She stayed?† |Nobody came.§ |The end.",
        "He said no word.1 |Then he left.2,3 |Version 2.1 is out.4–6 |It is 3.5.",
        "他来了。[1]|他走了。†|完",
        # ordinals
        "Er kam am 7. März zum 4. Advent, im 1. -3. Jahr. |Im XIX. Jahrhundert war das so. |Er ist in Haus 7. |Sie.",
        "V 1. Lize hrál za 2. FC. |Viz obr. 4. |Je to tak.",
        "Bu 3. Cumhuriyet. |II. Mahmut için bir kitap.",
        "Look, I am 12. |She is 9. |The Great War I. |It was in the 1. |Nobody knows.",
        # letters without capitals, and marks of other scripts
        "ქართული ძველია. |ის კარგია! |ვინ იცის? |მე.",
        "Ես տանն եմ։ |Ինչո՞ւ ես լռում։ |Ի՜նչ լավ է: |Գնանք։",
        "ሰላም ነው። |ማን ነው፧ |እኔ ነኝ፡፡ |ደህና።",
        "བོད་ཡིག་སློབ། |ཚིག་གྲུབ། །|གསུམ་པ༎ |བཞི།",
        "Πού είναι; |Εδώ· ναι. |Τι λες;\u037e |Όχι. |Is it so; He asked.",
        "ប៉ុន្តែ។ |ទេ៕ |မဟုတ်။ |ဟုတ်။ |تم۔ |کیا؟ |ہاں۔",
        "これは本．|値は３．５だ！|「え？」と言った。|「はい。」、そして。|終",
        # quotation marks
        "« Oui ! » |Il rit. |„Komm!“ |Er ging. |»Nein!« |»Doch!« rief sie.",
        "Hän tuli. |”Hei.” |”Mitä?” hän kysyi.",
        # dialogues
        "Entró.\n|—¿Ya?\n|—No —dijo—. |Luego.\n|—Vale —dijo él. |—Se fue.\n|Y ya.",
        "– Salut\n|– Ça va ?\n|– Oui, dit-il\nen riant.",
        "— Где? — спросил он.\n|— Там.",
        "He was there\n— as always — and\nleft.",
        # quoted mail
        "Ann wrote:\n|> Are you there? |I am\n> here. |And you?\n|> Yes.\n|Yes.",
        "Ann wrote:\n|> I am.\n|>\n> And you?",
    ],
)
def test_sentences_end_where_they_do_and_not_at_what_looks_alike(marked):
    check("sentences", marked)


@pytest.mark.parametrize(
    ("words", "opens"),
    [(["Acme", " Inc", ".", " The", " end"], True), (["Acme", " Inc", ".", " Theo", "dore"], False)],
)
def test_after_an_abbreviation_the_next_word_tells_as_far_as_its_token_goes(words, opens):
    ends = np.cumsum([len(word) for word in words])
    spans = np.stack([np.append(0, ends[:-1]), ends], axis=-1)
    ids = partitioner("sentences")(TokenisedText("".join(words), np.arange(len(words)), spans))
    assert ids.tolist() == [0, 0, 0, opens, opens]


def test_the_rows_of_a_table_are_sentences_of_one_paragraph():
    text = "Sizes:\n\n| a | b |\n|---|---|\n| 1 | 2 |\nAfter it."
    rows = [text.index("| a"), text.index("|---"), text.index("| 1"), text.index("After")]
    assert gold.found_openings(partitioner("sentences"), text) == set(rows)
    assert gold.found_openings(partitioner("paragraphs"), text) == {rows[0], rows[3]}


@pytest.mark.parametrize(
    "marked",
    [
        "One line\nand one more. Still it.\n\n|Two.\n \t\n|Three.",
        "# Title\n|Text:\n|- item\n  goes on. Still.\n|- item\n|Text again.",
        "1. One\n|2. Two\n   goes on\n|3. Three",
        "Annual Report\n|The board met.",
        "Code:\n|```\nx = 1\n\ny = 2\n```\n|Text.",
        "some code\n```\n|x = 1. Y\n```\n|Text.",
        "Title\n=====\n|Text with\n`code` and\n2 numbers.",
        "Überblick\n|Der Rat tagte.",
    ],
)
def test_paragraphs(marked):
    check("paragraphs", marked)


@pytest.mark.parametrize(
    "marked",
    [
        "Rules:\n|(a) copy it as you\nlike; or\n|(b) give it\nto all;\n|(c) see (b).",
        "Rules:\n\n  |a) copy it as you like\n  at once and\n  be glad, but\n  also\n  |b) give it.",
        "Steps:\n|i. in the first place\n   in all\n|ii. it goes on\n   ix\n|iii. end",
        "A. First that\nwraps here\n|B. Second\nthat does too\n|C. Third",
        "1. Take\n20 mg of it\n|2. Close it\n  2021 was good\n|3. End",
        "1. The work must be given to all of the people\nWho ask, as to the\nothers\n|2. End",
        "1. One\n   a. first\n   |b. second\n|2. Two\n\n   |more\n|3. Three",
        "1.1 Scope\n|1.2 Terms used in\nthis\n|1.3 Rest\n|2. End",
        "١. أول\n|٢. ثان",
    ],
)
def test_a_list_goes_on_with_the_next_marker_and_an_item_with_the_next_line(marked):
    check("paragraphs", marked)


@pytest.mark.parametrize(
    "marked",
    [
        "So:\n|````\n```\na\n```\n\nb\n````\n|After.",
        "So:\n|~~~\n```\na\n\n~~~~\n|After.",
        "So:\n|```\na ```\n\n~~~\n``` x\n``\n  ``` \n|After.",
        "So:\n|```\nnever\n\n\nclosed",
        "So:\n\n  |```\n  a\n\n  ```\n|After.",
        "> - So:\n> |```\n> a\n>\n> b\n|After.\n\n|More.",
    ],
)
def test_code_ends_at_a_fence_of_its_own_sort_and_length(marked):
    check("paragraphs", marked)


@pytest.mark.parametrize(
    "marked",
    [
        "Ann wrote:\n|> Hi,\n> how are you?\n>\n|> Ann\n|I am well.",
        "Hi.\n|> one\n> two\n>|> deep\n>> more\n> |Up\n|Out.",
        "Entró.\n|—Hola.\n|—Adiós.\n|Se fue.",
    ],
)
def test_quotations_and_turns_of_a_dialogue_are_paragraphs(marked):
    check("paragraphs", marked)


def test_the_prompt_of_an_interpreter_is_no_quotation():
    text = "So\n>>> x = 1\n>>> y"
    spans = np.array([(0, 3), (3, 6), (6, 13), (13, 16), (16, 18)])
    assert partitioner("paragraphs")(TokenisedText(text, np.arange(5), spans)).tolist() == [0] * 5


@pytest.mark.parametrize(
    ("name", "marked"),
    [
        ("phrases", "The cat |with a hat, |who sat |on it, |left."),
        ("phrases", "The inn |(in town) |was shut; |1,000 men slept |in barns."),
        ("phrases", "You may go |on Sunday 3 May 2021."),
        ("phrases:punctuation", "The cat with a hat, |who sat on it, |left — |“at last” |and for good."),
        ("arguments", "We stayed |because it rained. |If it had not, |we would have left; |however, nobody knew."),
        ("arguments", "He ran |so that, |on the other hand, she could walk."),
        ("arguments", "Bread, salt, and oil were there, |but he went, |and he did not eat."),
    ],
)  # fmt: skip
def test_phrases_and_arguments(name, marked):
    check(name, marked)


@pytest.mark.parametrize(
    ("text", "entities"),
    [
        ("We saw Ann Lee at the Bank of England.", ["Ann Lee", "Bank of England"]),
        ("Nobody came. Everybody slept, said Tom.", ["Tom"]),
        ("NASA paid $3.5 billion on 3 May 2021 for 40 km.", ["NASA", "$3.5 billion", "3 May 2021", "40 km"]),
        ("as Fig. 2 shows of Apollo 11. 3 men flew", ["Fig. 2", "Apollo 11"]),
        ("write to a.b@c.org or see https://c.org/d.html.", ["a.b@c.org", "https://c.org/d.html"]),
        ("he read “War and Peace” on 2021-05-03.", ["“War and Peace”", "2021-05-03"]),
        ("he read the New York\nTimes to Dr. A. Ito.", ["New York\nTimes", "Dr. A. Ito"]),
    ],
)
def test_entities(text, entities):
    assert [text[start:end] for start, end in entities_by_rule(text)] == entities


def test_an_entity_is_one_block_with_its_punctuation():
    check("entities", "The dean |(Ann Lee), |of the |Bank of England, |ate |in |Paris.")


def test_a_token_stands_at_its_first_character_that_is_not_white_space():
    text = " a\n\n é🎉"
    spans = [(0, 2), (2, 4), (4, 6), (6, 7), (6, 7), (7, 7)]
    tokens = TokenisedText(text, np.arange(6), np.array(spans))
    assert token_places(tokens).tolist() == [1, 1, 5, 6, 6, 6]


def test_white_space_goes_with_the_block_before_and_at_the_start_with_what_follows():
    text = "\n A. \n B."
    spans = [(0, 1), (1, 3), (3, 4), (4, 5), (5, 6), (6, 8), (8, 9)]
    assert partitioner("sentences")(TokenisedText(text, np.arange(7), np.array(spans))).tolist() == [0] * 5 + [1] * 2


@pytest.mark.slow
def test_a_text_of_one_long_line_is_read_whole():
    line = "It was the 3rd of May. " * 40_000
    spans = np.array([match.span() for match in re.finditer(r" ?[^ ]+", line)])
    ids = partitioner("sentences")(TokenisedText(line, np.arange(len(spans)), spans))
    assert ids.tolist() == np.repeat(np.arange(40_000), 6).tolist()


@pytest.mark.slow
@pytest.mark.parametrize("line", speed.LINES)
@pytest.mark.parametrize("name", ["sentences", "paragraphs", "phrases", "entities", "arguments"])
def test_one_long_line_of_anything_takes_no_longer_a_character_than_a_short_one(name, line):
    text = speed.one_line(speed.LINES[line], 60_000)
    started = time.process_time()
    partitioner(name)(text)
    assert time.process_time() - started < 5  # takes 0.1 to 0.5 s; 10 and more where time grows with the square


def test_the_page_has_the_times_kept_of_long_lines():
    kept = json.loads(speed.MEASURED.read_text(encoding="utf-8"))
    assert list(kept["seconds"]) == list(speed.EVERY)
    assert tables(speed.line_table(kept))[0] in tables(gold.PAGE.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("phrases:commas", "expected phrases, phrases:punctuation or phrases:spacy"),
        ("entities:x", "expected entities or entities:spacy"),
        ("sentences:en", "takes no argument; given 'en'"),
    ],
)
def test_an_unknown_argument_is_refused(name, expected):
    with pytest.raises(ProglocError, match=expected):
        partitioner(name)


def test_causal_is_said_of_the_rule_asked_for():
    causal = {name: partitioner(name).causal for name in ("sentences", "paragraphs", "phrases", "phrases:punctuation")}
    assert all(causal.values())
    assert not any(partitioner(name).causal for name in ("phrases:spacy", "entities", "arguments"))


@pytest.fixture
def fresh_pipeline():
    parsed.english_pipeline.cache_clear()
    yield
    parsed.english_pipeline.cache_clear()


@pytest.mark.usefixtures("fresh_pipeline")
@pytest.mark.parametrize("name", ["phrases:spacy", "entities:spacy"])
def test_without_spacy_the_install_line_is_named(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(
        ProglocError, match=r"pip install 'progloc\[semantic\]' && python -m spacy download en_core_web"
    ):
        partitioner(name)(gold.word_tokens("A text."))


@pytest.mark.usefixtures("fresh_pipeline")
def test_without_a_pipeline_its_download_is_named(monkeypatch):
    spacy = pytest.importorskip("spacy")
    monkeypatch.setattr(spacy.util, "get_installed_models", lambda: ["de_core_news_sm"])
    with pytest.raises(ProglocError, match="run: python -m spacy download en_core_web_sm"):
        partitioner("phrases:spacy")(gold.word_tokens("A text."))


@pytest.fixture
def annotated(monkeypatch):
    """A pipeline that gives one sentence the annotation a parser would."""
    spacy = pytest.importorskip("spacy")
    blank = spacy.blank("en")
    words = ["The", "dean", "of", "Oslo", "will", "soon", "meet", "old", "friends", "."]
    known = spacy.tokens.Doc(
        blank.vocab,
        words=words,
        spaces=[True] * 8 + [False] * 2,
        pos=["DET", "NOUN", "ADP", "PROPN", "AUX", "ADV", "VERB", "ADJ", "NOUN", "PUNCT"],
        deps=["det", "nsubj", "prep", "pobj", "aux", "advmod", "ROOT", "amod", "dobj", "punct"],
        heads=[1, 6, 1, 2, 6, 6, 6, 8, 6, 6],
        ents=["O", "O", "O", "B-GPE", "O", "O", "O", "O", "O", "O"],
    )

    def pipe(pieces, as_tuples):
        for text, context in pieces:
            assert text.strip() == known.text
            assert as_tuples
            yield known, context

    monkeypatch.setattr(parsed, "english_pipeline", lambda: SimpleNamespace(pipe=pipe))
    return known.text


def test_spacy_gives_chunks_in_every_paragraph(annotated):
    chunks = "The dean |of Oslo |will soon meet |old friends."
    check("phrases:spacy", f"{chunks}\n\n|{chunks}")


def test_spacy_gives_entities(annotated):
    assert cut("entities:spacy", annotated) == "The dean |of |Oslo |will soon meet old friends."
