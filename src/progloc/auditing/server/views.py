"""HTML out of the templates; whatever is put into them is escaped."""

from __future__ import annotations

__all__ = ["rendered"]

from typing import Any

import jinja2
from fastapi.responses import HTMLResponse

_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("progloc.auditing.server", "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def rendered(template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """Return a template filled in."""
    return HTMLResponse(_TEMPLATES.get_template(f"{template}.html.j2").render(**values), status)
