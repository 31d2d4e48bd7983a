"""The one way pages are made: jinja2 templates that escape whatever is put into them."""

from __future__ import annotations

__all__ = ["templates"]

from typing import Any

import jinja2
from markupsafe import Markup

from progloc.report.printing import visible


def _shown(value: Any) -> Any:
    """Return what stands on a page for a value that is put into it."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def templates(package: str) -> jinja2.Environment:
    """Return the templates of a package's folder `templates`; a name that is not given is an error, never empty.

    What is put in is escaped, and shown as `printing.visible` shows it; `Markup` is put in as it is.
    """
    return jinja2.Environment(
        loader=jinja2.PackageLoader(package, "templates"),
        autoescape=True,
        finalize=_shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
