"""Text that progloc did not write itself: what is shown of it, and where it stays as it is."""

from __future__ import annotations

import io
import unicodedata

import matplotlib as mpl
import pytest
from rich.console import Console

from progloc.report.formats import counted
from progloc.report.plot import styled
from progloc.report.printing import console, visible
from progloc.report.table import Column, Table, escaped, to_markdown, to_rich
from progloc.report.templating import templates

HIDING = ("Cc", "Cf", "Cs", "Zl", "Zp")
DRAWN = {chr(i) for i in (*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD)} | {
    chr(i) for i in range(0x13430, 0x13440)
}
"""Marks of format that fonts draw: Arabic, Syriac and Kaithi numbers, hieroglyphs."""


class TestVisible:
    def test_every_character_that_hides_or_commands_is_named(self) -> None:
        """Against the Unicode database: all controls and marks of format but tab, line break, and those fonts draw."""
        every = (chr(i) for i in range(0x110000))
        hidden = {each for each in every if unicodedata.category(each) in HIDING} - {"\t", "\n"} - DRAWN
        assert [each for each in hidden if visible(each) != f"<U+{ord(each):04X}>"] == []
        for each in "\u3164\u034f\ufe00\U000e0100":  # a filler that is a letter, joiners and selectors of no width
            assert visible(each) == f"<U+{ord(each):04X}>"

    @pytest.mark.parametrize(
        "text", ["plain, é, 猫, 😀 and ❤️", "a\tb\nc", "line\r\nline", "שלום", "[b] :key: $x$ <U+0000>", ""]
    )
    def test_all_other_text_stays(self, text: str) -> None:
        assert visible(text) == text
        assert visible(visible(text + "\x1b")) == visible(text + "\x1b")


class TestConsole:
    def test_a_string_is_text_in_cells_and_titles_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        name = "[bold]:key:[/x] \x1b]0;title\x07 \x08"
        for shown in (name, to_rich(Table(name, "", (Column(name, text=True),), ((name,),)))):
            out = io.StringIO()
            monkeypatch.setattr("sys.stdout", out)
            console().print(shown)
            texts = " ".join(out.getvalue().split())
            assert "[bold]:key:[/x] <U+001B>]0;title<U+0007> <U+0008>" in texts
            assert "\x1b" not in texts

    def test_a_name_with_brackets_is_whole_in_a_table_and_an_interval_is_not(self) -> None:
        table = Table("", "", (Column("", text=True), Column("")), (("copy (2) [new] ± x (β=5)", "1.00 ± 0.10"),))
        out = io.StringIO()
        Console(file=out, width=80).print(to_rich(table))
        assert "copy (2) [new] ± x" in out.getvalue()
        assert "β" not in out.getvalue()
        assert "0.10" not in out.getvalue()


class TestMarkdown:
    @pytest.mark.parametrize(
        ("text", "written"),
        [
            ("a|b", "a\\|b"),
            ("$a_b$", "\\$a_b\\$"),
            ("_a_ **b**", "\\_a\\_ \\*\\*b\\*\\*"),
            ("<b>x</b> < 0.001", "\\<b>x\\</b> < 0.001"),
            ("![x](y) [1.0, 2.0]", "![x\\](y) [1.0, 2.0]"),
            ("two\nlines\u202e", "two lines\\<U+202E>"),
            ("I_total, `code`, 1.04× [1.02, 1.06]", "I_total, `code`, 1.04× [1.02, 1.06]"),
        ],
    )
    def test_a_name_is_no_markup(self, text: str, written: str) -> None:
        assert escaped(text) == written
        assert f"| {written} |" in to_markdown(Table("", "", (Column(""),), ((text,),)))


class TestPages:
    def test_what_is_put_into_a_page_is_visible_and_escaped(self) -> None:
        page = templates("progloc.app").get_template("error.html.j2")
        html = page.render(title="<a\u202e>", message='"\x1b"')
        assert "&lt;a&lt;U+202E&gt;&gt;" in html
        assert "&lt;U+001B&gt;" in html


def test_a_name_in_a_figure_is_no_mathematics() -> None:
    with styled():
        drawn = mpl.figure.Figure()
        for text in (drawn.suptitle("a_$b_c$"), drawn.add_subplot().set_title("$d$")):
            assert not text.get_parse_math()


@pytest.mark.parametrize(
    ("count", "noun", "text"),
    [
        (0, "seed", "0 seeds"), (1, "seed", "1 seed"), (2, "forward pass", "2 forward passes"),
        (1, "forward pass", "1 forward pass"), (12345, "token", "12,345 tokens"),
    ],
)  # fmt: skip
def test_a_count_agrees_with_its_noun(count: int, noun: str, text: str) -> None:
    assert counted(count, noun) == text
