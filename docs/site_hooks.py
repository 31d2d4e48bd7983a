"""What the site has and the repository's pages have not: every figure, drawn from benchmarks/measured when it is built.

A page names a figure that only the site shows by `<!-- on the site: PATH TITLE -->`. A link to a file outside docs/,
such as code, becomes that file's path; the site has no such file.
"""

import functools
import re
import sys
from pathlib import Path
from typing import Any

OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./([^)#]+)\)")
ON_THE_SITE = re.compile(r"<!-- on the site: (\S+) (.+?) -->")


@functools.cache  # `mkdocs serve` builds again and again
def drawn() -> dict[str, bytes]:
    """Return every figure as a PNG by its path in docs/."""
    sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
    import write_performance
    import write_results

    return {**write_results.site_pictures(), **write_performance.site_pictures()}


def on_files(files: Any, config: Any, **_: Any) -> Any:
    """Put what is drawn among the site's files, in place of what the repository keeps."""
    from mkdocs.structure.files import File

    for path, content in drawn().items():
        if (kept := files.get_file_from_path(path)) is not None:
            files.remove(kept)
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Return the page with its further figures, and with `[name](../path)` turned into the path."""
    return OUTSIDE.sub(lambda link: f"`{link[2]}`", ON_THE_SITE.sub(r"![\2](\1)", markdown))
