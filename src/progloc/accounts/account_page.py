"""The page of an account: question and answer, what each source was worth, and what knowing it cost."""

from __future__ import annotations

from importlib import resources

from markupsafe import Markup

from progloc.accounts.account import Account
from progloc.report.templating import templates

TOLD = 0.05
"""Nats below which an interaction is not shown."""


def page(account: Account) -> str:
    """Return an account as one HTML document that loads nothing."""
    largest = max((abs(source.effect) for source in account.sources), default=0.0) or 1.0
    ranked = sorted(account.sources, key=lambda source: -source.effect)
    style = (resources.files("progloc.accounts") / "templates" / "audit.css").read_text(encoding="utf-8")
    return (
        templates("progloc.accounts")
        .get_template("account.html.j2")
        .render(
            account=account,
            ranked=[(source, round(100 * abs(source.effect) / largest, 1)) for source in ranked],
            interactions=sorted(
                (pair for pair in account.interactions if abs(pair.nats) >= TOLD), key=lambda pair: -abs(pair.nats)
            ),
            style=Markup(style),
        )
    )
