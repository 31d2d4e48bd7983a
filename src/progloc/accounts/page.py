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
    """A block of the prompt, as the page names it in lists and captions."""

    number: int
    excerpt: str
    share: float
    """Of the prompt's tokens."""
    cut: bool
    """Whether the block continues into the answer."""


@dataclass(frozen=True)
class Run:
    """Consecutive tokens of one block."""

    block: int
    pieces: tuple[str, ...]
    """The text of each token."""
    start: int
    """Position of the first token in the text."""
    first: bool
    """Whether the block begins here."""


def _runs(audit: Audit, start: int, stop: int) -> list[Run]:
    """Split a part of the text wherever the block changes."""
    seen: set[int] = set()
    runs = []
    for block, positions in groupby(range(start, stop), key=audit.block_ids.__getitem__):
        first, *others = positions
        pieces = tuple(map(visible, audit.tokens[first : first + 1 + len(others)]))
        runs.append(Run(block, pieces, first, block not in seen))
        seen.add(block)
    return runs


def _blocks(audit: Audit) -> list[Block]:
    """Return the prompt's blocks, in the order of their numbers."""
    prompt = audit.block_ids[: audit.answer_start]
    sizes = Counter(prompt)
    texts: dict[int, list[str]] = {}
    for block, text in zip(prompt, audit.tokens, strict=False):
        texts.setdefault(block, []).append(text)
    cut = {tested.block for tested in audit.examined.tested if not tested.whole}
    return [
        Block(number, _excerpt(texts[number]), sizes[number] / len(prompt), number in cut) for number in sorted(sizes)
    ]


def _excerpt(texts: Sequence[str]) -> str:
    line = one_line("".join(texts)) or "(blank)"
    return line if len(line) <= EXCERPT else line[: EXCERPT - 1].rstrip() + "…"


def _policy(style: str, script: str) -> str:
    """Return the Content-Security-Policy that allows the page's own style and script, and nothing else."""

    def sha(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    return f"default-src 'none'; style-src {sha(style)}; script-src {sha(script)}; base-uri 'none'; form-action 'none'"


def _provenance(environment: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the software and machine that made the audit, as (name, value) rows."""
    git = environment.get("git")
    state = f"{git['commit']}{', with uncommitted changes' if git['dirty'] else ''}" if git else None
    rows = {**environment, "git": state}
    return [(name, str(value)) for name, value in rows.items() if value is not None]


def _read_asset(name: str) -> str:
    """Read a file from the template's folder."""
    return (resources.files("progloc.accounts") / "templates" / name).read_text(encoding="utf-8")


def _by_mass(examined: Examination) -> list[TestedBlock]:
    """Sort the tested blocks by mass, the largest first, so that a table shows whether effects fall with it."""
    return sorted(examined.tested, key=lambda tested: -examined.picture.mass_no_sink[tested.block])


@functools.cache
def _templates() -> jinja2.Environment:
    environment = templates("progloc.accounts")
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "allow_nan": False, "separators": (",", ":")}
    environment.filters.update(percent=percent, signed=signed)
    return environment


def page(audit: Audit) -> str:
    """Return an audit as a complete HTML document.

    It loads nothing and can be opened from disk. Its Content-Security-Policy allows only its own style and script, so
    nothing in an audited text can run. It shows `audit.to_dict(heads=False)`, and contains the same as JSON.

    Args:
        audit: of a text of any length; the page's size grows with the answer's tokens × traced layers × blocks.
    """
    template = _templates().get_template("audit.html.j2")
    style, script = _read_asset("audit.css"), _read_asset("audit.js")
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
        most_first=_by_mass,
        made_by=_provenance(audit.environment),
        style=Markup(style),
        script=Markup(script),
        policy=_policy(style, script),
    )
