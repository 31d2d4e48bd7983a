"""The page of an account: question and answer, what each source was worth, and what knowing it cost."""

from __future__ import annotations

from importlib import resources

from markupsafe import Markup

from progloc.accounts.account import Account
from progloc.report.templating import templates

SHOWN = 0.05
"""Nats below which an interaction is not shown."""


def page(account: Account) -> str:
    """Return an account as one HTML document that loads nothing."""
    largest = max(map(abs, account.worth.values())) or 1.0
    sources = {source.name: source for source in account.sources}
    style = (resources.files("progloc.accounts") / "templates" / "audit.css").read_text(encoding="utf-8")
    environment = templates("progloc.accounts")
    environment.filters["nats"] = lambda value, digits=2: f"{value:+.{digits}f}".replace("-", "\N{MINUS SIGN}")
    return environment.get_template("account.html.j2").render(
        account=account,
        ranked=[(sources[name], nats, round(100 * abs(nats) / largest, 1)) for name, nats in account.worth.items()],
        interactions=sorted(
            (pair for pair in account.interactions if abs(pair.nats) >= SHOWN), key=lambda pair: -abs(pair.nats)
        ),
        style=Markup(style),
    )
