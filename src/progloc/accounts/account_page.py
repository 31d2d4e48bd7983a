"""The page of an account: question and answer, what each source was worth, and what knowing it cost."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources

from markupsafe import Markup

from progloc.accounts.account import Account
from progloc.report.templating import templates

SHOWN = 0.05
"""Nats below which an interaction is not shown."""
CHARACTERS = 160
"""Of a source's text that are shown unasked."""


def page(account: Account) -> str:
    """Return an account as one HTML document that loads nothing."""
    sources = {source.name: source for source in account.sources}
    masses = [source.mass for source in account.sources if source.mass is not None]

    def width(value: float | None, values: Iterable[float]) -> float:
        return round(100 * abs(value or 0.0) / (max(map(abs, values), default=0.0) or 1.0), 1)

    style = (resources.files("progloc.accounts") / "templates" / "audit.css").read_text(encoding="utf-8")
    environment = templates("progloc.accounts")
    environment.filters["nats"] = lambda value, digits=2: f"{value:+.{digits}f}".replace("-", "\N{MINUS SIGN}")
    return environment.get_template("account.html.j2").render(
        account=account,
        ranked=[
            (source, width(source.effect, account.effects.values()), width(source.mass, masses))
            for source in map(sources.__getitem__, account.worth)
        ],
        shown=CHARACTERS,
        has_mass=bool(masses),
        has_shares=any(source.shapley is not None for source in account.sources),
        estimated=any(source.shapley_error for source in account.sources),
        interactions=sorted(
            (pair for pair in account.interactions if abs(pair.nats) >= SHOWN), key=lambda pair: -abs(pair.nats)
        ),
        style=Markup(style),
    )
