"""The page an overseer reads: an audit as one HTML file that needs no network."""

from __future__ import annotations

__all__ = ["page"]

import base64
import dataclasses
import functools
import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import groupby
from typing import Any

import jinja2
from markupsafe import Markup

from progloc.accounts.scatter import scatter
from progloc.accounts.schema import Audit, Examination, TestedBlock
from progloc.accounts.wording import (
    BASELINES,
    EFFECTS,
    PICTURE_NAMES,
    TITLES,
    UNLOCALISED_TITLES,
    UNTESTED,
    VERDICTS,
    percent,
    signed,
)
from progloc.report.printing import one_line, visible
from progloc.report.templating import templates

EXCERPT = 90
"""Characters of a block that stand for it in lists."""


@dataclass(frozen=True)
class Block:
    """What the page says of a block wherever it names it."""

    number: int
    excerpt: str
    share: float
    """Of the prompt's tokens."""
    cut: bool
    """Whether the prompt's end cuts through it."""


@dataclass(frozen=True)
class Run:
    """Tokens in a row that are of one block."""

    block: int
    pieces: tuple[str, ...]
    """The text of each."""
    start: int
    """The first one's place in the text."""
    first: bool
    """Whether the block begins here."""


def _runs(audit: Audit, start: int, stop: int) -> list[Run]:
    """Cut a part of the text where the block changes."""
    begun: set[int] = set()
    runs = []
    for block, places in groupby(range(start, stop), key=audit.block_ids.__getitem__):
        first, *others = places
        pieces = tuple(map(visible, audit.tokens[first : first + 1 + len(others)]))
        runs.append(Run(block, pieces, first, block not in begun))
        begun.add(block)
    return runs


def _blocks(audit: Audit) -> list[Block]:
    """Describe every block of the prompt, by number."""
    prompt = audit.block_ids[: audit.answer_start]
    sizes = Counter(prompt)
    texts: dict[int, list[str]] = {}
    for block, text in zip(prompt, audit.tokens, strict=False):
        texts.setdefault(block, []).append(text)
    cut = {each.block for each in audit.examined.tested if not each.whole}
    return [
        Block(number, _excerpt(texts[number]), sizes[number] / len(prompt), number in cut) for number in sorted(sizes)
    ]


def _excerpt(texts: Sequence[str]) -> str:
    line = one_line("".join(texts)) or "(blank)"
    return line if len(line) <= EXCERPT else line[: EXCERPT - 1].rstrip() + "…"


def _policy(style: str, script: str) -> str:
    """Allow the page's own style and script, and nothing else."""

    def own(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    return f"default-src 'none'; style-src {own(style)}; script-src {own(script)}; base-uri 'none'; form-action 'none'"


def _made_by(environment: dict[str, Any]) -> list[tuple[str, str]]:
    """Say what made the audit, a line each."""
    git = environment.get("git")
    state = f"{git['commit']}{', with uncommitted changes' if git['dirty'] else ''}" if git else None
    lines = {**environment, "git": state}
    return [(name, str(value)) for name, value in lines.items() if value is not None]


def _beside(name: str) -> str:
    """Read a file that lies beside the template."""
    return (resources.files("progloc.accounts") / "templates" / name).read_text(encoding="utf-8")


def _most_first(examined: Examination) -> list[TestedBlock]:
    """Sort what was tested by mass, so that a table shows whether effects fall with it."""
    return sorted(examined.tested, key=lambda each: -examined.picture.mass_no_sink[each.block])


@functools.cache
def _templates() -> jinja2.Environment:
    found = templates("progloc.accounts")
    found.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "allow_nan": False, "separators": (",", ":")}
    found.filters.update(percent=percent, signed=signed)
    return found


def page(audit: Audit) -> str:
    """Return an audit as a complete HTML document.

    It loads nothing and may be opened from disk. Its Content-Security-Policy allows its own style and script alone, so
    nothing that stands in a text can run. What it shows is `audit.to_dict(heads=False)`, which it also holds as JSON.

    Args:
        audit: of a text of any length; the size grows with the answer's tokens × traced layers × blocks.
    """
    template = _templates().get_template("audit.html.j2")
    style, script = _beside("audit.css"), _beside("audit.js")
    examinations: dict[str, Examination] = {"examined": audit.examined}
    if audit.base is not None:
        examinations["base"] = audit.base
    blocks = _blocks(audit)
    titles = TITLES if audit.localised else UNLOCALISED_TITLES
    return template.render(
        audit=audit,
        data={
            "audit": audit.to_dict(heads=False),
            "blocks": [dataclasses.asdict(block) for block in blocks],
            "beside": titles["base"].lower(),
        },
        titles=titles,
        examinations=examinations,
        blocks=blocks,
        prompt=_runs(audit, 0, audit.answer_start),
        answer=_runs(audit, audit.answer_start, len(audit.tokens)),
        verdicts=VERDICTS,
        untested=UNTESTED,
        pictures=PICTURE_NAMES,
        effects=EFFECTS,
        baselines=BASELINES,
        scatter=scatter,
        most_first=_most_first,
        made_by=_made_by(audit.environment),
        style=Markup(style),
        script=Markup(script),
        policy=_policy(style, script),
    )
