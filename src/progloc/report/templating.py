"""How every page is made: jinja2 templates that escape the values they are given."""

from __future__ import annotations

import jinja2
from markupsafe import Markup

from progloc.report.printing import visible


def _to_visible(value: object) -> object:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def templates(package: str) -> jinja2.Environment:
    """Return the templates in a package's folder `templates`; an undefined name is an error.

    Values are escaped and shown as `printing.visible` shows them; `Markup` is inserted as it is.
    """
    return jinja2.Environment(
        loader=jinja2.PackageLoader(package, "templates"),
        autoescape=True,
        finalize=_to_visible,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
