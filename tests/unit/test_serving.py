"""The server: what it takes in, in which order it works, what it refuses, and what it keeps."""

from __future__ import annotations

import dataclasses
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from filelock import FileLock

from progloc.accounts.schema import Audit
from progloc.app.application import create_app
from progloc.app.database import Database
from progloc.app.jobs import Progress
from progloc.app.requests import AuditRequest, Limits
from progloc.app.server import serve
from progloc.errors import ProglocError
from stand_in_server import BASE, MODEL, stand_in

PROMPT = "A cat sat. It was warm. What did the cat do?"
LOCAL = "http://127.0.0.1:8642"


@contextmanager
def served(path: Path, **options: Any) -> Iterator[TestClient]:
    options = {"run_audit": stand_in, "base": BASE, **options}
    with closing(Database(path)) as database:
        app = create_app(database=database, model=MODEL, **options)
        with TestClient(app, base_url=LOCAL) as client:
            yield client


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data.sqlite"


@pytest.fixture
def client(data: Path) -> Iterator[TestClient]:
    with served(data) as client:
        yield client


def ask(client: TestClient, prompt: str = PROMPT, **request: Any) -> int:
    answer = client.post("/audits", json={"prompt": prompt, **request})
    assert answer.status_code == 202, answer.text
    return int(answer.json()["id"])


def wait(client: TestClient, job: int, *states: str) -> dict[str, Any]:
    """Return a job's state once it is one of these."""
    for _ in range(500):
        found: dict[str, Any] = client.get(f"/audits/{job}/state").json()
        if found["state"] in states:
            return found
        time.sleep(0.01)
    raise AssertionError(found)


class Gate:
    """Audits that begin when they are let, and say what was asked of them."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.asked: list[str] = []
        self.threads: set[str] = set()

    def __call__(self, request: AuditRequest, progress: Progress) -> Audit:
        self.asked.append(request.prompt)
        self.threads.add(threading.current_thread().name)
        while not self.opened.is_set():
            progress(0)
            time.sleep(0.005)
        return stand_in(request, progress)


@pytest.fixture
def gate() -> Gate:
    return Gate()


def test_an_audit_is_made_shown_downloaded_and_there_again_after_a_restart(data: Path) -> None:
    with served(data) as client:
        job = ask(client, continuation=" It sat.", dial=0.5)
        assert wait(client, job, "done")["verdict"] == "supported"
        page, json = client.get(f"/audits/{job}/audit.html"), client.get(f"/audits/{job}/audit.json")
    assert "attachment" in page.headers["content-disposition"]
    assert json.json()["text"]["answer"] == " It sat."
    with served(data) as client:
        assert f'href="/audits/{job}"' in client.get("/").text
        assert 'sandbox="allow-scripts"' in client.get(f"/audits/{job}").text
        shown = client.get(f"/audits/{job}/page")
        assert shown.text == page.text
        assert shown.headers["content-security-policy"].startswith("sandbox allow-scripts; default-src 'none'")
        assert all(client.get(f"/audits/{job}/page/{system}").status_code == 200 for system in ("localised", "base"))


def test_without_the_base_there_is_no_page_of_it(client: TestClient) -> None:
    job = ask(client, compare=False)
    wait(client, job, "done")
    assert client.get(f"/audits/{job}/page/base").status_code == 404
    assert client.get(f"/audits/{job}/page").status_code == 200


def test_progress_is_of_the_cost_announced(data: Path) -> None:
    half = threading.Event()

    def halfway(request: AuditRequest, progress: Progress) -> Audit:
        audit = stand_in(request, Progress(60))
        progress.announce(audit.cost)
        for _ in range(audit.cost.passes // 2):
            progress(1)
        half.wait(10)
        return audit

    with served(data, run_audit=halfway) as client:
        job = ask(client)
        while not (state := wait(client, job, "running"))["passes_done"]:
            pass
        half.set()
        assert state["passes_done"] == state["passes"] // 2
        assert state["tokens"] > 0


def test_one_at_a_time_in_order_and_the_queue_is_bounded(data: Path, gate: Gate) -> None:
    with served(data, run_audit=gate, limits=Limits(waiting=2)) as client:
        first = ask(client, "first")
        wait(client, first, "running")
        second, third = ask(client, "second"), ask(client, "third")
        assert [wait(client, job, "waiting")["position"] for job in (second, third)] == [1, 2]
        full = client.post("/audits", json={"prompt": "fourth"})
        assert (full.status_code, full.json()["detail"]) == (503, "2 audits are waiting already; try again in a while.")
        assert gate.asked == ["first"]
        gate.opened.set()
        wait(client, third, "done")
        assert gate.asked == ["first", "second", "third"]
        assert gate.threads == {"audits"}


def test_cancelling_takes_out_of_the_queue_or_stops(data: Path, gate: Gate) -> None:
    with served(data, run_audit=gate) as client:
        running, waiting = ask(client, "running"), ask(client, "waiting")
        wait(client, running, "running")
        for job in (waiting, running):
            client.post(f"/audits/{job}/cancel")
            assert wait(client, job, "cancelled")["position"] is None
        gate.opened.set()
        wait(client, ask(client, "next"), "done")
        assert gate.asked == ["running", "next"]


def test_an_audit_that_takes_too_long_is_stopped(data: Path, gate: Gate) -> None:
    with served(data, run_audit=gate, limits=Limits(seconds=0.05)) as client:
        assert "Stopped after 0.05 seconds" in wait(client, ask(client), "failed")["message"]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ProglocError("the prompt has one block; expected two"), "the prompt has one block; expected two"),
        (RuntimeError("secret path"), "The audit failed (RuntimeError); the server's log says more."),
    ],
)
def test_a_failed_audit_says_why_and_the_next_one_runs(error: Exception, message: str, data: Path) -> None:
    def fails(request: AuditRequest, progress: Progress) -> Audit:
        if request.prompt == "bad":
            raise error
        return stand_in(request, progress)

    with served(data, run_audit=fails) as client:
        assert wait(client, ask(client, "bad"), "failed")["message"] == message
        wait(client, ask(client), "done")


def test_what_waited_when_the_server_stopped_is_made_by_the_next_one(data: Path, gate: Gate) -> None:
    with served(data, run_audit=gate) as client:
        jobs = ask(client, "running"), ask(client, "waiting")
        wait(client, jobs[0], "running")
    with served(data) as client:
        for job in jobs:
            wait(client, job, "done")


def test_what_ran_when_the_server_was_killed_is_not_tried_again(data: Path) -> None:
    with closing(Database(data)) as database:
        database.write(
            "INSERT INTO jobs (made, request, study, state) VALUES ('', ?, 0, 'running')", '{"prompt": "A cat sat."}'
        )
    with served(data) as client:
        assert "ask for it again" in wait(client, 1, "failed")["message"]


LIMITS = Limits(prompt_characters=100, continuation_characters=10, new_tokens=64, body_bytes=2048)


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"prompt": "x" * 101}, 413, "The prompt has 101 characters; at most 100 are taken."),
        ({"prompt": "x", "continuation": "y" * 11}, 413, "at most 10"),
        ({"prompt": "x" * 3000}, 413, "At most 2 KiB"),
        ({"prompt": " \n"}, 422, "The prompt is empty"),
        ({"prompt": "x", "continuation": " "}, 422, "The continuation is empty"),
        ({"prompt": "x", "max_new_tokens": 65}, 422, "expected 1 to 64"),
        ({"prompt": "x", "max_new_tokens": 0}, 422, "expected 1 to 64"),
        ({"prompt": "x", "dial": 1.5}, 422, "from 0 to 1"),
        ({"prompt": "x", "dial": "far"}, 422, "dial: "),
        ({"prompt": 5}, 422, "prompt: "),
        ({}, 422, "prompt: "),
        ({"prompt": "x", "speed": 1}, 422, "speed: "),
        ([], 422, "the body: "),
    ],
)
def test_what_is_too_large_or_wrong_is_refused_in_a_sentence(body: Any, status: int, words: str, data: Path) -> None:
    with served(data, limits=LIMITS) as client:
        answer = client.post("/audits", json=body)
        assert answer.status_code == status
        assert words in answer.json()["detail"]
        assert client.get("/audits/1/state").status_code == 404


@pytest.mark.parametrize("raw", ['{"prompt": "\\ud800"}', '{"prompt": "x", "dial": NaN}', "{", ""])
def test_json_that_is_none_is_refused(raw: str, client: TestClient) -> None:
    answer = client.post("/audits", content=raw, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422


def test_a_body_without_a_length_is_counted_as_it_comes(data: Path) -> None:
    with served(data, limits=LIMITS) as client:
        parts = (b"x" * 1000 for _ in range(5))
        answer = client.post("/audits", content=parts, headers={"Content-Type": "application/json"})
    assert answer.status_code == 413


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8642", "127.0.0.1.evil.example", "localhost.evil", ""])
def test_another_host_is_refused(host: str, client: TestClient) -> None:
    assert client.get("/", headers={"Host": host}).status_code == 400


@pytest.mark.parametrize("host", ["localhost", "localhost:1", "127.0.0.1:8642", "[::1]:8642"])
def test_this_machine_by_any_of_its_names_is_not(host: str, client: TestClient) -> None:
    assert client.get("/", headers={"Host": host}).status_code == 200


def test_another_host_is_let_in_where_that_was_asked_for(data: Path) -> None:
    with served(data, remote=True) as client:
        assert client.get("/", headers={"Host": "lab.example"}).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "http://localhost:8642", "x"])
@pytest.mark.parametrize("path", ["/audits", "/study/rater", "/study/ratings", "/audits/1/cancel"])
@pytest.mark.parametrize("remote", [False, True])
def test_a_post_from_another_sites_page_is_refused(origin: str, path: str, remote: bool, data: Path) -> None:
    with served(data, remote=remote) as client:
        answer = client.post(path, json={"prompt": PROMPT}, headers={"Origin": origin})
        assert answer.status_code == 403
        assert client.get("/audits/1/state").status_code == 404


def test_a_post_from_its_own_page_is_taken(client: TestClient) -> None:
    assert client.post("/audits", json={"prompt": PROMPT}, headers={"Origin": LOCAL}).status_code == 202


@pytest.mark.parametrize(
    "path", ["/", "/study", "/static/serve.css", "/none", "/docs", "/openapi.json", "/audits/1/page"]
)
def test_every_answer_has_the_headers(path: str, client: TestClient) -> None:
    headers = client.get(path).headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json", "/static/../app.py", "/static/%2e%2e/app.py"])
def test_there_is_nothing_else(path: str, client: TestClient) -> None:
    assert client.get(path).status_code == 404


def test_no_page_loads_anything_from_elsewhere(client: TestClient) -> None:
    job = ask(client)
    wait(client, job, "done")
    for path in ("/", "/study", f"/audits/{job}", "/static/serve.css", "/static/audits.js", "/static/study.js"):
        text = client.get(path).text
        assert "http:" not in text
        assert "https:" not in text


def test_what_a_user_enters_is_text(client: TestClient) -> None:
    script = "<script>alert(1)</script>"
    job = ask(client, f"{script} A cat sat. It was warm.", continuation=script)
    waiting = client.get(f"/audits/{job}").text
    wait(client, job, "done")
    for text in (
        waiting,
        client.get("/").text,
        client.get(f"/audits/{job}").text,
        client.get(f"/audits/{job}/page").text,
    ):
        assert "<script>alert" not in text
    assert "&lt;script&gt;" in client.get("/").text


def test_a_browser_gets_a_page_where_something_is_refused(client: TestClient) -> None:
    answer = client.get("/audits/99", headers={"Accept": "text/html"})
    assert answer.status_code == 404
    assert "<p>There is no audit 99.</p>" in answer.text


class TestDatabase:
    def test_a_transaction_that_fails_leaves_nothing(self, data: Path) -> None:
        with closing(Database(data)) as database:

            def half() -> None:
                with database.transaction() as connection:
                    connection.execute("INSERT INTO raters (name, key, made) VALUES ('a', 'b', 'c')")
                    connection.execute("INSERT INTO raters (name) VALUES ('d')")

            with pytest.raises(sqlite3.IntegrityError):
                half()
            assert database.read("SELECT * FROM raters") == []

    def test_every_transaction_is_on_the_disk_when_it_ends(self, data: Path) -> None:
        with closing(Database(data)) as database:
            assert database.read("PRAGMA synchronous")[0][0] == 2  # FULL
            assert database.read("PRAGMA journal_mode")[0][0] == "wal"

    def test_nothing_is_of_a_job_that_is_not_there(self, data: Path) -> None:
        with closing(Database(data)) as database, pytest.raises(sqlite3.IntegrityError):
            database.write("INSERT INTO documents VALUES (1, 'page', x'00')")

    @pytest.mark.parametrize("spoil", ["not a database, by far", None])
    def test_a_file_that_is_something_else_is_refused_and_left(self, spoil: str | None, data: Path) -> None:
        if spoil:
            data.write_text(spoil)
        else:
            with closing(sqlite3.connect(data)) as other:
                other.execute("CREATE TABLE theirs (x)")
        before = data.read_bytes()
        with pytest.raises(ProglocError, match=r"data\.sqlite"):
            Database(data)
        assert data.read_bytes() == before

    def test_another_version_is_refused(self, data: Path) -> None:
        with closing(Database(data)) as database:
            database.write("PRAGMA user_version = 99")
        with pytest.raises(ProglocError, match="version 99 of the data; this progloc reads version 1"):
            Database(data)


class TestServe:
    """What is refused before a model is loaded: that would fail, for there is none here."""

    @pytest.fixture
    def run(self, data: Path) -> Callable[..., None]:
        def run(base: str | None = None, **options: Any) -> None:
            usual = {"host": "127.0.0.1", "port": 0, "data": data, "study": None, "remote": False}
            serve("no/model", base, **usual | options, ready=print)

        return run

    @pytest.mark.parametrize("host", ["0.0.0.0", "192.168.0.1", "::"])
    def test_an_address_that_others_reach(self, host: str, run: Callable[..., None]) -> None:
        with pytest.raises(ProglocError, match="would let other machines in; expected 127"):
            run(host=host)

    def test_a_study_without_a_base(self, run: Callable[..., None], tmp_path: Path) -> None:
        with pytest.raises(ProglocError, match="--study without a model to compare with"):
            run(study=tmp_path)

    def test_a_prompt_that_is_too_long(self, run: Callable[..., None], tmp_path: Path) -> None:
        (tmp_path / "prompts.txt").write_text("short\n\n" + "x" * (Limits().prompt_characters + 1))
        with pytest.raises(ProglocError, match=r"prompt 2 of .*at most 40,000"):
            run(study=tmp_path / "prompts.txt", base="b")

    @pytest.mark.parametrize("library", ["uvicorn", "fastapi"])
    def test_a_missing_library(self, library: str, run: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, library, None)
        monkeypatch.delitem(sys.modules, "progloc.app.application")
        with pytest.raises(ProglocError, match=rf"needs {library}; run pip install 'progloc\[app\]'"):
            run()

    def test_data_that_another_server_uses(self, run: Callable[..., None], data: Path) -> None:
        with FileLock(f"{data}.lock"), pytest.raises(ProglocError, match="in use by another progloc serve"):
            run()


def test_limits_hold_for_what_the_form_says(client: TestClient) -> None:
    home = client.get("/").text
    limits = dataclasses.asdict(Limits())
    assert f'maxlength="{limits["prompt_characters"]}"' in home
    assert f'max="{limits["new_tokens"]}"' in home


def test_the_page_of_the_documentation_names_the_limits() -> None:
    page = (Path(__file__).parents[2] / "docs/serve.md").read_text(encoding="utf-8")
    limits = Limits()
    for number in (limits.prompt_characters, limits.continuation_characters, limits.new_tokens):
        assert f"{number:,}" in page
    assert f"{limits.body_bytes // 1024} KiB a request, {limits.waiting} audits" in page
    assert limits.seconds == 600
    assert "ten minutes an audit" in " ".join(page.split())
