"""What is kept of a finished audit."""

from __future__ import annotations

from progloc.accounts.audit_page import page
from progloc.accounts.schema import Audit
from progloc.app.blinding import SYSTEMS, alone, blinded

PAGE, JSON = "page", "json"
SYSTEM_PAGES = {system: f"page of {system}" for system in SYSTEMS}
BLINDED = {system: f"blinded {system}" for system in SYSTEMS}


def documents(audit: Audit, *, study: bool) -> dict[str, str]:
    """Return the documents of an audit, by name.

    Args:
        audit: what was found.
        study: pages for raters, without names and verdicts; else pages for who asked, of each model alone as well.
    """
    held = SYSTEMS if audit.base is not None else ()
    if study:
        return {JSON: audit.to_json(), **{BLINDED[system]: page(blinded(audit, system)) for system in held}}
    return {
        JSON: audit.to_json(),
        PAGE: page(audit),
        **{SYSTEM_PAGES[system]: page(alone(audit, system)) for system in held},
    }
