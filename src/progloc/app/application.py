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
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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
    if not remote:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=LOOPBACK, www_redirect=False)
    app.add_middleware(guard, body_bytes=limits.body_bytes)

    @app.exception_handler(Refused)
    @app.exception_handler(HTTPException)
    def explain(request: Request, error: Refused | HTTPException) -> Response:
        status, message = error.status_code, str(error.detail)
        if "text/html" in request.headers.get("accept", ""):
            return fill_template("error", status=status, title=HTTPStatus(status).phrase, message=message)
        return JSONResponse({"detail": message}, status)

    @app.exception_handler(RequestValidationError)
    def explain_malformed(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part not in ("body", "path"))
        return explain(request, Refused(422, f"{where or 'the body'}: {first['msg']}"))

    return app


def guard(app: ASGIApp, body_bytes: int) -> ASGIApp:
    """Return an application that refuses writes of another site's page and large bodies, and adds the headers.

    A page of another site may send a POST here, but its browser says so in `Origin`.
    """
    too_large = f"At most {body_bytes // 1024:,} KiB are taken in one request."

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await app(scope, receive, send)
        received = 0

        async def receive_limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > body_bytes:
                raise HTTPException(413, too_large)
            return message

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        headers = Headers(scope=scope)
        origin, length = headers.get("origin"), headers.get("content-length", "0")
        answer = app
        if scope["method"] not in SAFE and origin is not None and urlsplit(origin).netloc != headers.get("host"):
            answer = JSONResponse({"detail": "This came from another site's page and was refused."}, 403)
        elif not length.isdecimal() or int(length) > body_bytes:
            answer = JSONResponse({"detail": too_large}, 413)
        await answer(scope, receive_limited, send_with_headers)

    return guarded
