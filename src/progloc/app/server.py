"""From what the command line is given to a running server; the libraries of the extra `app` are imported late."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from progloc.accounts.auditing import audit, open_models, resolve_base
from progloc.accounts.schema import Audit
from progloc.accounts.text import insert_space
from progloc.app.blinding import BASE
from progloc.app.database import Database
from progloc.data import load_corpus
from progloc.errors import ProglocError
from progloc.resolve import resolve

if TYPE_CHECKING:
    from fastapi import FastAPI

    from progloc.app.jobs import Progress, RunAudit
    from progloc.app.requests import AuditRequest, Limits

GRACE_SECONDS = 3
"""For answers that are under way when the server is stopped."""


def auditor(localised: Any, before: Any, tokenizer: Any) -> RunAudit:
    """Return what audits with a localised model, the one before localising (or None), and their tokenizer."""

    def run(request: AuditRequest, progress: Progress) -> Audit:
        texts = (request.prompt, request.continuation)
        return audit(
            localised, *(texts if request.as_is else insert_space(*texts)), tokenizer=tokenizer,
            base=before if request.compare else None, writer=before if request.writer == BASE else None,
            dial=request.dial, max_new_tokens=request.max_new_tokens,
            announce=progress.announce, progress=progress,
        )  # fmt: skip

    return run


def read_prompts(path: Path, limits: Limits) -> list[str]:
    """Return the prompts of a study: the paragraphs of a text file, each once.

    Raises:
        ProglocError: no such file, no text in it, or a paragraph above the limits.
    """
    from progloc.app.requests import AuditRequest, Refused

    if not path.is_file():
        raise ProglocError(f"no file at {path}; expected a text file, a prompt a paragraph, as in --study prompts.txt")
    paragraphs = [part.strip() for part in re.split(r"\n\s*\n", load_corpus(path).text)]
    prompts = list(dict.fromkeys(filter(None, paragraphs)))
    for number, prompt in enumerate(prompts, 1):
        try:
            AuditRequest(prompt=prompt).check(limits)
        except Refused as refused:
            raise ProglocError(f"prompt {number} of {path}: {refused}") from refused
    return prompts


def run_app(app: FastAPI, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serve an application until it is interrupted.

    Args:
        app: what `create_app` made.
        host: the address to listen on.
        port: its port; 0 takes one that is free.
        ready: called with the address, once requests are taken in.

    Raises:
        ProglocError: the address cannot be listened on.
    """
    import uvicorn

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise ProglocError(f"cannot listen on {host} port {port} ({error}); try another --port, or 0") from error
    config = uvicorn.Config(
        app, log_level="warning", server_header=False, timeout_graceful_shutdown=GRACE_SECONDS, ws="none"
    )
    shown = f"[{host}]" if ":" in host else host
    ready(f"http://{shown}:{listening.getsockname()[1]}/")
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listening])


def serve(
    model: str,
    base: str | None,
    *,
    schedule: str | tuple[float, ...] | None = None,
    blocks: str | None = None,
    host: str,
    port: int,
    data: Path,
    study: Path | None,
    remote: bool,
    ready: Callable[[str], None],
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve audits of a model, and a study of them, until interrupted.

    Args:
        model, schedule, blocks: see `resolve`.
        base, say: see `resolve_base`.
        host, port, ready: see `run_app`.
        data: the SQLite file for what people enter.
        study: the prompts of a study, one a paragraph.
        remote: let other machines in.

    Raises:
        ProglocError: an address other machines reach without ``remote``, a study without a base, a file or a model that
            cannot be used, data that another server uses, or a missing library.
    """
    try:
        import uvicorn  # noqa: F401

        from progloc.app.application import LOOPBACK, create_app
        from progloc.app.requests import Limits
    except ModuleNotFoundError as error:
        raise ProglocError(f"progloc serve needs {error.name}; run pip install 'progloc[app]'") from error
    if host not in LOOPBACK and not remote:
        raise ProglocError(f"--host {host} would let other machines in; expected 127.0.0.1, or --allow-remote as well")
    named = resolve(model, schedule=schedule, blocks=blocks)
    named_base = resolve_base(named, base, say)
    if study is not None and named_base is None:
        raise ProglocError("--study without a model to compare with; expected the one before localising too: --base M")
    limits = Limits()
    prompts = read_prompts(study, limits) if study is not None else []
    try:
        with contextlib.closing(Database(data)) as database, FileLock(f"{data}.lock", timeout=0):
            localised, before, tokenizer = open_models(named, named_base)
            app = create_app(
                auditor(localised, before, tokenizer), database, model=model,
                base=None if before is None else str(before.config._name_or_path),
                study=prompts, limits=limits, remote=remote,
            )  # fmt: skip
            run_app(app, host, port, ready)
    except Timeout as error:
        raise ProglocError(f"{data} is in use by another progloc serve; give another file with --data") from error
