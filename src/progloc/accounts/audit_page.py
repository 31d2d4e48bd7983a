"""The page an overseer reads: an audit as one HTML file that needs no network."""

from __future__ import annotations

import base64
import functools
import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import groupby
from typing import NamedTuple

import jinja2
from markupsafe import Markup

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
from progloc.report.formats import counted
from progloc.report.printing import one_line, visible
from progloc.report.templating import templates

EXCERPT = 90
"""Characters of a block that stand for it in lists."""
WIDTH, HEIGHT = 460, 300
LEFT, RIGHT, TOP, BOTTOM = 48, 14, 14, 30
"""The scatter plot's size and margins."""
NAMED = 5
"""How many of its points are labelled: those with the most mass."""


def _runs(audit: Audit, start: int, stop: int) -> Iterator[dict[str, object]]:
    """Split a part of the text wherever the block changes, into runs of tokens; `first` where a block begins."""
    seen: set[int] = set()
    for block, group in groupby(range(start, stop), key=audit.block_ids.__getitem__):
        positions = list(group)
        pieces = [visible(audit.tokens[position]) for position in positions]
        yield {"block": block, "pieces": pieces, "start": positions[0], "first": block not in seen}
        seen.add(block)


def _blocks(audit: Audit) -> list[dict[str, object]]:
    """Return the prompt's blocks as lists and captions name them; `share` is of the prompt's tokens."""
    sizes = Counter(audit.block_ids[: audit.answer_start])
    cut = {tested.block for tested in audit.examined.tested if not tested.whole}
    return [
        {
            "number": number,
            "excerpt": _excerpt(text),
            "share": sizes[number] / audit.answer_start,
            "cut": number in cut,
        }
        for number, text in enumerate(audit.block_texts)
    ]


def _excerpt(text: str) -> str:
    line = one_line(text) or "(blank)"
    return line if len(line) <= EXCERPT else line[: EXCERPT - 1].rstrip() + "…"


class Tick(NamedTuple):
    """A value on an axis, and its coordinate."""

    at: float
    value: float


class Point(NamedTuple):
    """A block and its coordinates; y grows downwards."""

    block: int
    x: float
    y: float
    mass: float
    effect: float
    named: bool


@dataclass(frozen=True)
class Scatter:
    """A scatter plot; lengths are in units of its own view box."""

    points: tuple[Point, ...]
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


def _ticks(values: Sequence[float], start: float, stop: float) -> tuple[Tick, ...]:
    """Return ticks at round values that cover 0 and all `values`, at coordinates from `start` to `stop`."""
    from matplotlib.ticker import MaxNLocator  # what imports pages to read ratings needs no matplotlib

    low, high = min(0.0, *values), max(0.0, *values)
    ticks = MaxNLocator(5).tick_values(low, high if high > low else 1.0)
    scale = (stop - start) / (ticks[-1] - ticks[0])
    return tuple(Tick(round(start + scale * (value - ticks[0]), 1), float(value)) for value in ticks)


def _coordinate(value: float, ticks: Sequence[Tick]) -> float:
    first, last = ticks[0], ticks[-1]
    return round(first.at + (last.at - first.at) * (value - first.value) / (last.value - first.value), 1)


def scatter(examined: Examination) -> Scatter:
    """Place each tested source by its mass without the sink (across) and the effect of its removal in nats (up).

    Args:
        examined: with at least one tested source.
    """
    sources = [tested for tested in examined.tested if tested.whole]
    masses = [float(examined.picture.mass_no_sink[source.block]) for source in sources]
    across = _ticks(masses, LEFT, WIDTH - RIGHT)
    up = _ticks([source.removal for source in sources], HEIGHT - BOTTOM, TOP)
    unlabelled = sorted(masses, reverse=True)[: NAMED + 1][-1] if len(masses) > NAMED else -1.0
    return Scatter(
        points=tuple(
            Point(
                source.block, _coordinate(mass, across), _coordinate(source.removal, up),
                mass, source.removal, named=mass > unlabelled,
            )
            for source, mass in zip(sources, masses, strict=True)
        ),
        across=across,
        up=up,
    )  # fmt: skip


def _policy(style: str, script: str) -> str:
    """Return the Content-Security-Policy that allows the page's own style and script, and nothing else."""

    def sha(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    return f"default-src 'none'; style-src {sha(style)}; script-src {sha(script)}; base-uri 'none'; form-action 'none'"


def _provenance(environment: Mapping[str, object]) -> list[tuple[str, str]]:
    """Return the software and machine that made the audit, as (name, value) rows."""
    rows = dict(environment)
    if isinstance(git := rows.get("git"), Mapping):
        rows["git"] = f"{git['commit']}{', with uncommitted changes' if git['dirty'] else ''}"
    return [(name, str(value)) for name, value in rows.items() if value is not None]


def _by_mass(examined: Examination) -> list[TestedBlock]:
    """Sort the tested blocks by mass, the largest first, so that a table shows whether effects fall with it."""
    return sorted(examined.tested, key=lambda tested: -examined.picture.mass_no_sink[tested.block])


def _listed(value: str | float | Sequence[float] | Sequence[Sequence[float]]) -> str:
    """Return a name or number as the page shows it, numbers separated by commas, and rows of them by semicolons."""
    if isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return signed(value)
    return ("; " if isinstance(value[0], Sequence) else ", ").join(map(_listed, value))


@functools.cache
def _templates() -> jinja2.Environment:
    environment = templates("progloc.accounts")
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "allow_nan": False, "separators": (",", ":")}
    environment.filters.update(percent=percent, signed=signed, listed=_listed, counted=counted)
    return environment


def page(audit: Audit) -> str:
    """Return an audit as a complete HTML document.

    It loads nothing and can be opened from disk. Its Content-Security-Policy allows only its own style and script, so
    nothing in an audited text can run. It shows `audit.to_dict(heads=False)`, and contains the same as JSON.

    Args:
        audit: of a text of any length; the page's size grows with the answer's tokens × traced layers × blocks.
    """
    folder = resources.files("progloc.accounts") / "templates"
    style, script = ((folder / name).read_text(encoding="utf-8") for name in ("audit.css", "audit.js"))
    blocks = _blocks(audit)
    titles = TITLES if audit.localised else UNLOCALISED_TITLES
    template = _templates().get_template("audit.html.j2")
    return template.render(
        audit=audit,
        data={"audit": audit.to_dict(heads=False), "blocks": blocks, "beside": titles["base"].lower()},
        titles=titles,
        examinations={"examined": audit.examined} | ({} if audit.base is None else {"base": audit.base}),
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
