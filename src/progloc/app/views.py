"""HTML out of the templates; whatever is put into them is escaped."""

from __future__ import annotations

from typing import Any

from fastapi.responses import HTMLResponse

from progloc.report.templating import templates

_TEMPLATES = templates("progloc.app")


def rendered(template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """Return a template filled in."""
    return HTMLResponse(_TEMPLATES.get_template(f"{template}.html.j2").render(**values), status)
