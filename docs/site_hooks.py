"""For the site: a link to a file outside docs/, such as code, becomes that file's path; the site has no such file."""

import re
from typing import Any

OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./([^)#]+)\)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Return the page with `[name](../path)` turned into the path."""
    return OUTSIDE.sub(lambda link: f"`{link[2]}`", markdown)
