"""What raters are asked of an audit's page: three scales of five points, each point with the sentence that anchors it.

The paper names usefulness, completeness and trustworthiness and reports no ratings; the anchors are ours.
"""

from __future__ import annotations

from dataclasses import dataclass

POINTS = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Scale:
    """One question with what each of its points means, from 1 to 5."""

    name: str
    question: str
    anchors: tuple[str, str, str, str, str]


RUBRIC = (
    Scale(
        "usefulness",
        "Does the page help you to see why this answer was given?",
        (
            "I know no more than the text alone tells me.",
            "I learned something, but nothing I would act on.",
            "I could say roughly which parts of the text mattered.",
            "I could name the parts that mattered, and why they did.",
            "I could decide from it whether to accept the answer.",
        ),
    ),
    Scale(
        "completeness",
        "Does it show everything the answer rests on?",
        (
            "What the answer clearly rests on is not marked at all.",
            "Most of what the answer rests on is missing.",
            "About half of what the answer rests on is marked.",
            "Only minor parts are missing.",
            "Everything that I find the answer rests on is marked.",
        ),
    ),
    Scale(
        "trustworthiness",
        "Do you believe that the answer really came about as shown?",
        (
            "No: what is marked contradicts the answer.",
            "Rather not: much of what is marked has nothing to do with the answer.",
            "I cannot tell.",
            "Rather yes: what is marked fits the answer, with exceptions.",
            "Yes: what is marked is what I would expect, and nothing else is.",
        ),
    ),
)
