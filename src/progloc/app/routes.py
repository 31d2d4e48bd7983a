"""Routes: audits for who asks for them, and the study as a rater sees it, without a model's name."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Cookie
from fastapi.responses import HTMLResponse, JSONResponse, Response

from progloc.app.blinding import BASE, JSON, PAGE, SYSTEM_PAGES
from progloc.app.database import CANCELLED, DONE, FAILED
from progloc.app.jobs import Job, Queue
from progloc.app.requests import AuditBody, AuditRequest, ClickBody, CommentBody, Limits, RaterBody, Refused
from progloc.app.survey import LABELS, POINTS, QUESTIONS, RUBRIC, Answers, Assignment, Rater
from progloc.report.templating import templates

LISTED = 50
"""Earlier audits on the page."""
DOCUMENT_HEADERS = {
    "Content-Security-Policy": (
        "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
        "img-src data:; font-src data:; frame-ancestors 'self'"
    )
}
"""Of an audit's page, which brings its own script: an origin of its own, and no network."""
COOKIE = "rater"
YEAR = 365 * 24 * 3600
Key = Annotated[str | None, Cookie(alias=COOKIE)]

_TEMPLATES = templates("progloc.app")


def fill_template(template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """Return a template filled in; whatever is put into it is escaped."""
    return HTMLResponse(_TEMPLATES.get_template(f"{template}.html.j2").render(**values), status)


def _attachment(name: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{name}"'}


def audit_routes(queue: Queue, answers: Answers, limits: Limits, model: str, base: str | None) -> APIRouter:
    """Return the routes under `/` and `/audits`."""
    routes = APIRouter()

    def typed_in(number: int) -> Job:
        job = queue.get(number)
        if job is None or job.study:
            raise Refused(404, f"There is no audit {number}.")
        return job

    def document(job: int, name: str, headers: dict[str, str]) -> Response:
        content = queue.database.document(typed_in(job).id, name)
        if content is None:
            raise Refused(404, f"Audit {job} has no {name}.")
        return Response(content, media_type="application/json" if name == JSON else "text/html", headers=headers)

    @routes.get("/")
    def show_all() -> HTMLResponse:
        return fill_template(
            "audits", model=model, base=base, limits=limits, defaults=AuditBody(prompt=""), jobs=queue.latest(LISTED),
            study=len(answers.items()),
        )  # fmt: skip

    @routes.post("/audits", status_code=202)
    def ask(body: AuditBody) -> dict[str, Any]:
        body.check(limits)
        return queue.state(queue.submit(AuditRequest(**body.model_dump())))

    @routes.get("/audits/{job}")
    def show(job: int) -> HTMLResponse:
        stored = typed_in(job)
        both = queue.database.document(job, SYSTEM_PAGES[BASE]) is not None
        return fill_template("audit", model=model, base=base, job=stored, done=stored.state == DONE, both=both)

    @routes.get("/audits/{job}/state")
    def show_state(job: int) -> dict[str, Any]:
        return queue.state(typed_in(job).id)

    @routes.post("/audits/{job}/cancel")
    def cancel(job: int) -> dict[str, Any]:
        queue.cancel(typed_in(job).id)
        return queue.state(job)

    @routes.get("/audits/{job}/page")
    @routes.get("/audits/{job}/page/{system}")
    def show_page(job: int, system: str = PAGE) -> Response:
        return document(job, SYSTEM_PAGES.get(system, system), DOCUMENT_HEADERS)

    @routes.get("/audits/{job}/audit.{suffix}")
    def download(job: int, suffix: str) -> Response:
        return document(job, PAGE if suffix == "html" else suffix, _attachment(f"audit-{job}.{suffix}"))

    return routes


def study_routes(answers: Answers, limits: Limits) -> APIRouter:
    """Return the routes under `/study`, and its export for who runs it."""
    routes = APIRouter(prefix="/study")

    def signed_in(key: str | None) -> Rater:
        rater = answers.rater(key)
        if rater is None:
            raise Refused(403, "Nobody has signed in here; open /study and type your name or code.")
        return rater

    def assigned(key: str | None, item: int) -> Assignment:
        assignment = answers.assignment(signed_in(key), item)
        if assignment is None:
            raise Refused(404, f"Item {item} was not shown to you.")
        return assignment

    def progress(rater: Rater) -> dict[str, Any]:
        states = [item.state for item in answers.items()]
        return {
            "finished": answers.finished(rater),
            "items": sum(state not in (FAILED, CANCELLED) for state in states),
            "ready": states.count(DONE),
        }

    def fill_item(assignment: Assignment) -> HTMLResponse:
        scores, comment = answers.scores_and_comment(assignment)
        return fill_template(
            "study_item", rater=assignment.rater, item=assignment.item, labels=LABELS, rubric=RUBRIC, points=POINTS,
            scores=scores, comment=comment, limits=limits, questions=QUESTIONS, **progress(assignment.rater),
        )  # fmt: skip

    @routes.get("")
    def show_next(key: Key = None) -> HTMLResponse:
        items, rater = answers.items(), answers.rater(key)
        if not items or rater is None:
            return fill_template("study_start", items=len(items), rubric=RUBRIC, points=POINTS, limits=limits)
        assignment = answers.next(rater)
        if assignment is None:
            return fill_template("study_done", rater=rater, **progress(rater))
        return fill_item(assignment)

    @routes.post("/rater")
    def enter(body: RaterBody, response: Response) -> dict[str, Any]:
        name = " ".join(body.name.split())
        if not name or len(name) > limits.name_characters or not name.isprintable():
            raise Refused(422, f"Expected a name or code of 1 to {limits.name_characters} characters.")
        key = answers.enter(name).key
        response.set_cookie(COOKIE, key, max_age=YEAR, path="/study", httponly=True, samesite="strict")
        return {}

    @routes.post("/leave")
    def leave(response: Response) -> dict[str, Any]:
        response.delete_cookie(COOKIE, path="/study")
        return {}

    @routes.get("/items/{item}")
    def show_item(item: int, key: Key = None) -> HTMLResponse:
        return fill_item(assigned(key, item))

    @routes.get("/items/{item}/{label}")
    def show_page(item: int, label: Literal["A", "B"], key: Key = None) -> Response:
        content = answers.page(assigned(key, item), label)
        if content is None:
            raise Refused(404, f"Item {item} is not ready yet.")
        return HTMLResponse(content, headers=DOCUMENT_HEADERS)

    @routes.post("/ratings")
    def rate(click: ClickBody, key: Key = None) -> dict[str, Any]:
        assignment = assigned(key, click.item)
        if click.scale not in {scale.name for scale in RUBRIC} or click.score not in POINTS:
            raise Refused(422, f"{click.scale}: {click.score}; expected a scale of the rubric, and 1 to {POINTS[-1]}.")
        answers.click(assignment, click.label, click.scale, click.score)
        return {"answered": len(answers.scores_and_comment(assignment)[0]), "questions": QUESTIONS}

    @routes.post("/comments")
    def comment(body: CommentBody, key: Key = None) -> dict[str, Any]:
        assignment = assigned(key, body.item)
        if len(body.text) > limits.comment_characters:
            raise Refused(413, f"A comment has at most {limits.comment_characters:,} characters.")
        answers.comment(assignment, body.text)
        return {}

    @routes.get("/ratings.csv")
    def download_csv() -> Response:
        return Response(answers.to_csv(), media_type="text/csv", headers=_attachment("ratings.csv"))

    @routes.get("/study.json")
    def download_json() -> Response:
        return JSONResponse(answers.to_dict(), headers=_attachment("study.json"))

    return routes
