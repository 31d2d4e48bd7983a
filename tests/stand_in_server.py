"""A server whose audits are invented, so that it starts without a model: `python stand_in_server.py DATA [PROMPTS]`."""

from __future__ import annotations

import sys
import time
from contextlib import closing
from pathlib import Path

from progloc.accounts.schema import Audit
from progloc.app.application import create_app
from progloc.app.database import Database
from progloc.app.jobs import Progress
from progloc.app.requests import AuditRequest, Limits
from progloc.app.server import read_prompts, run_app
from synthetic_audit import ANSWER, synthetic_audit

MODEL, BASE = "runs/quintic-of-smol", "hub/smol-as-it-came"


def stand_in(request: AuditRequest, progress: Progress) -> Audit:
    """Audit as `progloc.accounts.auditing` does, with invented findings, in a moment."""
    audit = synthetic_audit(request.prompt, request.continuation or ANSWER, base=request.compare)
    progress.announce(audit.cost)
    for _ in range(audit.cost.passes):
        time.sleep(0.001)
        progress(1)
    return audit


if __name__ == "__main__":
    data, *prompts = map(Path, sys.argv[1:])
    study = read_prompts(prompts[0], Limits()) if prompts else []
    with closing(Database(data)) as database:
        app = create_app(stand_in, database, model=MODEL, base=BASE, study=study)
        run_app(app, "127.0.0.1", 0, ready=lambda address: print(address, flush=True))
