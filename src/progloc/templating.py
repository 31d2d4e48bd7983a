"""The one way pages are made: jinja2 templates that escape whatever is put into them."""

from __future__ import annotations

__all__ = ["templates"]

import jinja2


def templates(package: str) -> jinja2.Environment:
    """Return the templates of a package's folder `templates`; a name that is not given is an error, never empty."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader(package, "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
