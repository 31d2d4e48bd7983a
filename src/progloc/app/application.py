"""The server as an application behind its guard: who runs audits is given to it, so it knows no model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.middleware.base import RequestResponseEndpoint
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from progloc.app.database import Database
from progloc.app.jobs import Queue, RunAudit
from progloc.app.requests import AuditRequest, Limits, Refused
from progloc.app.routes import audit_routes, fill_template, study_routes
from progloc.app.survey import Answers

SAFE = ("GET", "HEAD", "OPTIONS")
LOOPBACK = ("localhost", "127.0.0.1", "[::1]", "::1")
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def create_app(
    run_audit: RunAudit,
    database: Database,
    *,
    model: str,
    base: str | None = None,
    study: Sequence[str] = (),
    limits: Limits | None = None,
    remote: bool = False,
) -> FastAPI:
    """Return the application; its worker runs from the application's start to its end.

    Args:
        run_audit: audits a request, calling the progress with the forward passes done.
        database: what people enter; the caller closes it.
        model: the name of the localised model, to show.
        base: that of the model before localising, where `run_audit` has one.
        study: the prompts of a study, which needs a base.
        limits: the most that is taken in.
        remote: answer requests that name another host than this machine.

    Raises:
        ProglocError: the database holds a study of other models.
    """
    limits = limits or Limits()
    queue, answers = Queue(run_audit, database, limits), Answers(database)
    unaudited = answers.prepare(model, base, study) if base is not None and study else []

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        queue.start()
        for item in unaudited:
            request = AuditRequest(prompt=item.prompt, writer=item.drawn_writer)
            answers.set_job(item.id, queue.submit(request, study=True))
        yield
        queue.stop()

    # no pages about the interface: FastAPI's load scripts from elsewhere
    app = FastAPI(lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None)
    app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static"))
    app.include_router(audit_routes(queue, answers, limits, model, base))
    app.include_router(study_routes(answers, limits))
    app.add_middleware(RequestBodyLimitMiddleware, max_body_size=limits.body_bytes)
    if not remote:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=LOOPBACK, www_redirect=False)

    @app.middleware("http")
    async def guard(request: Request, answer: RequestResponseEndpoint) -> Response:
        headers = request.headers
        length = headers.get("content-length", "0")
        # a page of another site may send a POST here, but its browser says so
        foreign = "origin" in headers and urlsplit(headers["origin"]).netloc != headers.get("host")
        if foreign and request.method not in SAFE:
            response = explain(request, Refused(403, "This came from another site's page and was refused."))
        elif not length.isdecimal() or int(length) > limits.body_bytes:
            response = explain_too_large(request)
        else:
            response = await answer(request)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    @app.exception_handler(Refused)
    @app.exception_handler(HTTPException)
    def explain(request: Request, error: Refused | HTTPException) -> Response:
        status, message = error.status_code, str(error.detail)
        if "text/html" in request.headers.get("accept", ""):
            return fill_template("error", status=status, title=HTTPStatus(status).phrase, message=message)
        return JSONResponse({"detail": message}, status)

    @app.exception_handler(413)
    def explain_too_large(request: Request, _: HTTPException | None = None) -> Response:
        return explain(request, Refused(413, f"At most {limits.body_bytes // 1024:,} KiB are taken in one request."))

    @app.exception_handler(RequestValidationError)
    def explain_malformed(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part not in ("body", "path"))
        return explain(request, Refused(422, f"{where or 'the body'}: {first['msg']}"))

    return app
