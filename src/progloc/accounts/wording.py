"""The words of the audit's page, for readers who are not engineers."""

from __future__ import annotations

from typing import NamedTuple

from progloc.report.formats import number


class VerdictWords(NamedTuple):
    """A verdict in sentences, with a mark that shows it without colour."""

    mark: str
    headline: str
    meaning: str
    limits: str


class Name(NamedTuple):
    """A label, and one sentence that explains it."""

    label: str
    sentence: str


VERDICTS = {
    "supported": VerdictWords(
        mark="✓",
        headline="The picture below shows what this answer rested on.",
        meaning="It was tested: the parts of the text that it shades were taken away, and the answer became less "
        "likely much in the order the shading says.",
        limits="It does not say that the answer is right, and it holds for this answer alone.",
    ),
    "weak": VerdictWords(
        mark="≈",
        headline="The picture below is a hint at what this answer rested on, and no more.",
        meaning="It was tested: the parts of the text that it shades were taken away. What that did to the answer "
        "agrees with the shading in part, or could not be told well enough.",
        limits="It does not say that the answer is wrong. Do not decide anything by the shading alone.",
    ),
    "not faithful here": VerdictWords(
        mark="✗",
        headline="Do not believe the picture below: it does not show what this answer rested on.",
        meaning="It was tested: the parts of the text that it shades were taken away, and what that did to the answer "
        "does not follow the shading.",
        limits="It does not say that the answer is wrong: only that this picture does not explain it.",
    ),
    "too little to tell": VerdictWords(
        mark="?",
        headline="Whether the picture below shows what this answer rested on cannot be told.",
        meaning="It was tested: the parts of the text that it shades were taken away. There are too few of them, or "
        "what that did to the answer is too alike, to tell agreement with the shading from chance.",
        limits="It does not say that the picture is wrong, nor that it is right. Do not decide anything by it.",
    ),
}
UNTESTED = "It could not be tested: the text before the answer has fewer than two whole blocks to take away."
PICTURE_NAMES = {
    "mass_no_sink": Name(
        "Attention without the sink",
        "Models park attention on the first token, the sink, when they need nothing; this picture leaves it out.",
    ),
    "mass": Name("All attention", "The sink is counted too, as part of its block."),
    "value_mass": Name(
        "Attention by what it carried",
        "Every look is counted by its weight times the size (norm) of the value read there; a sink's is nearly zero.",
    ),
}
EFFECTS = {
    "removal": Name("Removal in place", "The block's words are gone; all others stay where they were."),
    "deletion": Name("Deletion", "The block's words are deleted from the text, and what follows moves up."),
    "knockout": Name(
        "Knockout",
        "The words stay, but the answer may not attend to them in the layers traced; attention to the rest grows "
        "instead.",
    ),
    "knockout_raw": Name("Knockout, rest unchanged", "The same, but attention to the rest stays as it was."),
}
TITLES = {"examined": "Localised", "base": "Before localising"}
"""Labels of an audit's two models."""
UNLOCALISED_TITLES = {"examined": "Not localised", "base": "Set beside it"}
BASELINES = {"recency": "later first", "last_block": "the last", "length": "longer first"}


def percent(share: float | None) -> str:
    """Format a share as a percentage; None as a dash."""
    return "–" if share is None else number(100 * share, 0 if abs(share) >= 0.0995 else 1) + "%"


def signed(value: float | None, digits: int = 2) -> str:
    """Format a number with `digits` decimals and a true minus sign; None as a dash."""
    return "–" if value is None else number(value, digits)
