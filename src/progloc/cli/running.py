"""How the command line runs: the commands, and every way in which one may end."""

from __future__ import annotations

import errno
import os
import sys

# each adds its commands, and --help lists them in this order
# isort: off
from progloc.cli import experiments, models, audit, serve, tools  # noqa: F401

# isort: on
from progloc.cli.options import app
from progloc.errors import ProglocError
from progloc.report.printing import print_on_any_encoding, visible

INTERRUPTED = 130


def _stop(message: str, status: int = 2) -> None:
    line = " ".join(part.strip() for part in message.splitlines())
    print(f"progloc: {visible(line)}", file=sys.stderr)
    raise SystemExit(status)


def main() -> None:
    """Run the command line; bad input ends with one line on standard error and status 2."""
    print_on_any_encoding()
    status: object = 0
    try:
        status = app(standalone_mode=False)
    except ProglocError as error:
        _stop(str(error))
    except KeyboardInterrupt:
        status = INTERRUPTED
    except SystemExit as stop:  # the parser may turn an interrupt into one of these
        status = stop.code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None
    except Exception as error:
        usage = getattr(error, "format_message", None)  # the parser's own errors
        if usage is not None and not usage():  # no command: its help was shown
            raise SystemExit(2) from None
        if usage is not None:
            _stop(f"{usage()} (progloc --help)")
        full = "No space left on device"
        if (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)) or full in str(error):
            _stop("the disk is full; free some space and run the same command again: it goes on where it stopped")
        if isinstance(error, PermissionError):
            _stop(f"{error.filename}: {error.strerror}; expected a place you may read and write")
        raise
    if status == INTERRUPTED:
        _stop("interrupted; the same command goes on where this one stopped", INTERRUPTED)
    raise SystemExit(status if isinstance(status, int) else 0)
