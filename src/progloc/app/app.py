"""The server as an application: who runs audits is given to it, so it knows no model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from progloc.app.answers import Answers
from progloc.app.audits import audit_routes
from progloc.app.database import Database
from progloc.app.guard import LOOPBACK, Guard
from progloc.app.requests import AuditRequest, Limits, Refused
from progloc.app.store import Jobs
from progloc.app.studying import study_routes
from progloc.app.views import rendered
from progloc.app.worker import RunAudit, Worker


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
    jobs, answers = Jobs(database), Answers(database)
    worker = Worker(run_audit, jobs, limits)
    missing = answers.prepare(model, base, study) if base is not None and study else []

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        worker.start()
        for item in missing:
            answers.set_job(item.id, worker.submit_for_study(AuditRequest(item.prompt, writer=item.writer)))
        yield
        worker.stop()

    # no pages about the interface: FastAPI's load scripts from elsewhere
    app = FastAPI(lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None)
    app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static"))
    app.include_router(audit_routes(jobs, worker, answers, limits, model, base))
    app.include_router(study_routes(jobs, answers, limits))
    if not remote:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=LOOPBACK, www_redirect=False)
    app.add_middleware(Guard, body_bytes=limits.body_bytes)

    def answer(request: Request, status: int, message: str) -> Response:
        if "text/html" in request.headers.get("accept", ""):
            return rendered("error", status=status, title=HTTPStatus(status).phrase, message=message)
        return JSONResponse({"detail": message}, status)

    @app.exception_handler(Refused)
    def refused(request: Request, error: Refused) -> Response:
        return answer(request, error.status, str(error))

    @app.exception_handler(HTTPException)
    def failed(request: Request, error: HTTPException) -> Response:
        return answer(request, error.status_code, str(error.detail))

    @app.exception_handler(RequestValidationError)
    def malformed(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part not in ("body", "path"))
        return answer(request, 422, f"{where or 'the body'}: {first['msg']}")

    return app
