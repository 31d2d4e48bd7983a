"""Routes: the study as a rater sees it, without a model's name, and its export for who runs it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Cookie
from fastapi.responses import HTMLResponse, JSONResponse, Response

from progloc.app.answers import LABELS, QUESTIONS, Answers, Assignment, Rater
from progloc.app.bodies import Body, Text
from progloc.app.documents import BLINDED
from progloc.app.export import study_csv, study_document
from progloc.app.guard import DOCUMENT_POLICY
from progloc.app.requests import Limits, Refused
from progloc.app.rubric import POINTS, RUBRIC
from progloc.app.store import CANCELLED, DONE, FAILED, Jobs
from progloc.app.views import rendered

COOKIE = "rater"
YEAR = 365 * 24 * 3600
Key = Annotated[str | None, Cookie(alias=COOKIE)]


class Name(Body):
    """Who rates."""

    name: Text


class Click(Body):
    """One click on a scale."""

    item: int
    label: Literal["A", "B"]
    scale: str
    score: int


class Comment(Body):
    """What a rater wrote of an item."""

    item: int
    text: Text


def study_routes(jobs: Jobs, answers: Answers, limits: Limits) -> APIRouter:
    """Return the routes under `/study`."""
    routes = APIRouter(prefix="/study")

    def known(key: str | None) -> Rater:
        rater = answers.rater(key)
        if rater is None:
            raise Refused(403, "Nobody has signed in here; open /study and type your name or code.")
        return rater

    def assigned(rater: Rater, item: int) -> Assignment:
        assignment = answers.assignment(rater, item)
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

    def shown(rater: Rater, assignment: Assignment) -> HTMLResponse:
        scores, comment = answers.given(rater, assignment)
        return rendered(
            "study_item", rater=rater, item=assignment.item, labels=LABELS, rubric=RUBRIC, points=POINTS,
            scores=scores, comment=comment, limits=limits, questions=QUESTIONS, **progress(rater),
        )  # fmt: skip

    @routes.get("")
    def study(rater: Key = None) -> HTMLResponse:
        items = answers.items()
        person = answers.rater(rater)
        if not items or person is None:
            return rendered("study_start", items=len(items), rubric=RUBRIC, points=POINTS, limits=limits)
        assignment = answers.next(person)
        if assignment is None:
            return rendered("study_done", rater=person, **progress(person))
        return shown(person, assignment)

    @routes.post("/rater")
    def enter(name: Name) -> Response:
        typed = " ".join(name.name.split())
        if not typed or len(typed) > limits.name_characters or not typed.isprintable():
            raise Refused(422, f"Expected a name or code of 1 to {limits.name_characters} characters.")
        response = JSONResponse({})
        key = answers.enter(typed).key
        response.set_cookie(COOKIE, key, max_age=YEAR, path="/study", httponly=True, samesite="strict")
        return response

    @routes.post("/leave")
    def leave() -> Response:
        response = JSONResponse({})
        response.delete_cookie(COOKIE, path="/study")
        return response

    @routes.get("/items/{item}")
    def again(item: int, rater: Key = None) -> HTMLResponse:
        person = known(rater)
        return shown(person, assigned(person, item))

    @routes.get("/items/{item}/{label}")
    def page(item: int, label: Literal["A", "B"], rater: Key = None) -> Response:
        assignment = assigned(known(rater), item)
        job = assignment.item.job
        content = None if job is None else jobs.document(job, BLINDED[assignment.system(label)])
        if content is None:
            raise Refused(404, f"Item {item} is not ready yet.")
        return Response(content, media_type="text/html", headers={"Content-Security-Policy": DOCUMENT_POLICY})

    @routes.post("/ratings")
    def rate(click: Click, rater: Key = None) -> dict[str, Any]:
        person = known(rater)
        if click.scale not in {scale.name for scale in RUBRIC} or click.score not in POINTS:
            raise Refused(422, f"{click.scale}: {click.score}; expected a scale of the rubric, and 1 to {POINTS[-1]}.")
        assignment = assigned(person, click.item)
        answers.click(person, assignment, click.label, click.scale, click.score)
        return {"answered": len(answers.given(person, assignment)[0]), "questions": QUESTIONS}

    @routes.post("/comments")
    def comment(comment: Comment, rater: Key = None) -> dict[str, Any]:
        person = known(rater)
        if len(comment.text) > limits.comment_characters:
            raise Refused(413, f"A comment has at most {limits.comment_characters:,} characters.")
        answers.comment(person, assigned(person, comment.item), comment.text)
        return {}

    @routes.get("/ratings.csv")
    def as_csv() -> Response:
        headers = {"Content-Disposition": 'attachment; filename="ratings.csv"'}
        return Response(study_csv(answers), media_type="text/csv", headers=headers)

    @routes.get("/study.json")
    def as_json() -> Response:
        headers = {"Content-Disposition": 'attachment; filename="study.json"'}
        return JSONResponse(study_document(answers), headers=headers)

    return routes
