"""Routes: the page on which audits are asked for, their queue, and what came of them."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response

from progloc.app.answers import Answers
from progloc.app.bodies import Body, Text
from progloc.app.documents import JSON, PAGE, SYSTEM_PAGES
from progloc.app.guard import DOCUMENT_POLICY
from progloc.app.requests import AuditRequest, Limits, Refused
from progloc.app.store import DONE, Job, Jobs
from progloc.app.views import rendered
from progloc.app.worker import Worker

LISTED = 50
"""Earlier audits on the page."""


class Asked(Body):
    """The body of a new audit."""

    prompt: Text
    continuation: Text | None = None
    max_new_tokens: int = 64
    dial: float = 0.0
    compare: bool = True
    as_is: bool = False


def audit_routes(
    jobs: Jobs, worker: Worker, answers: Answers, limits: Limits, model: str, base: str | None
) -> APIRouter:
    """Return the routes under `/` and `/audits`."""
    routes = APIRouter()

    def found(job: int) -> Job:
        stored = jobs.get(job)
        if stored is None or stored.study:
            raise Refused(404, f"There is no audit {job}.")
        return stored

    def state(job: Job) -> dict[str, Any]:
        running = worker.progress(job.id)
        return {
            "id": job.id,
            "state": job.state,
            "verdict": job.verdict,
            "message": job.message,
            "position": worker.position(job.id),
            "passes_done": running.passes if running else None,
            "passes": running.cost.passes if running and running.cost else None,
            "tokens": running.cost.tokens if running and running.cost else None,
        }

    def document(job: int, name: str, media_type: str, headers: dict[str, str]) -> Response:
        content = jobs.document(found(job).id, name)
        if content is None:
            raise Refused(404, f"Audit {job} has no {name}.")
        return Response(content, media_type=media_type, headers=headers)

    @routes.get("/")
    def home() -> HTMLResponse:
        return rendered(
            "audits", model=model, base=base, limits=limits, defaults=AuditRequest(""), jobs=jobs.latest(LISTED),
            study=len(answers.items()),
        )  # fmt: skip

    @routes.post("/audits", status_code=202)
    def ask(asked: Asked) -> dict[str, Any]:
        request = AuditRequest(**asked.model_dump()).checked(limits)
        return state(found(worker.submit(request)))

    @routes.get("/audits/{job}")
    def show(job: int) -> HTMLResponse:
        stored = found(job)
        side_by_side = all(name in stored.documents for name in SYSTEM_PAGES.values())
        return rendered("audit", model=model, base=base, job=stored, done=stored.state == DONE, both=side_by_side)

    @routes.get("/audits/{job}/state")
    def how_far(job: int) -> dict[str, Any]:
        return state(found(job))

    @routes.post("/audits/{job}/cancel")
    def cancel(job: int) -> dict[str, Any]:
        worker.cancel(found(job).id)
        return state(found(job))

    @routes.get("/audits/{job}/page")
    def page(job: int) -> Response:
        return document(job, PAGE, "text/html", {"Content-Security-Policy": DOCUMENT_POLICY})

    @routes.get("/audits/{job}/page/{system}")
    def system_page(job: int, system: str) -> Response:
        name = SYSTEM_PAGES.get(system, system)
        return document(job, name, "text/html", {"Content-Security-Policy": DOCUMENT_POLICY})

    @routes.get("/audits/{job}/audit.html")
    def download_page(job: int) -> Response:
        return document(job, PAGE, "text/html", _attachment(f"audit-{job}.html"))

    @routes.get("/audits/{job}/audit.json")
    def download_json(job: int) -> Response:
        return document(job, JSON, "application/json", _attachment(f"audit-{job}.json"))

    return routes


def _attachment(name: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{name}"'}
