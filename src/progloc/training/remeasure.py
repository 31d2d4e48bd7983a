"""A finished λ=0 run measured on other blocks: they have no part in its training, only in what is measured of it."""

from __future__ import annotations

__all__ = ["remeasure_run"]

import dataclasses
import time
from pathlib import Path
from typing import Any

from progloc.config import RunConfig
from progloc.environment import describe_environment
from progloc.errors import ProglocError
from progloc.files import write_json
from progloc.measures.measuring import measure
from progloc.model import load
from progloc.results import RunResult
from progloc.run_folder import MODEL_FOLDER, RUN_FILE, claimed, describe_run, finished
from progloc.training.inputs import Inputs

_EPOCH = ("epoch", "step", "stage", "perplexity")
"""What an evaluation found that does not depend on blocks."""


def remeasure_run(
    config: RunConfig, folder: Path, inputs: Inputs, *, name: str, role: str, before: dict[str, Any], trained: Path
) -> RunResult:
    """Measure the model of a finished run with λ = 0 on this config's blocks, and return that as a result of its own.

    The result is the other's with its own `name`, `config`, `before`, `final` and `elsewhere`; `measured_from` names
    the other. What the other measured while training was of its own blocks, and is null here.

    Args:
        config: that of the other run, but for `locality.blocks`.
        folder: where `run.json` and `result.json` go; there is no model of its own.
        inputs: from `gather`, for this config.
        name: what the run is called in tables.
        role: see `PlannedRun`.
        before: the measures of the untrained model on these blocks.
        trained: the other run's folder.

    Raises:
        ProglocError: the folder holds another configuration's run, another process writes it, or the other run is not
            finished or has some λ > 0.
    """
    description = {**describe_run(config, name, role), "data": inputs.summary()}
    with claimed(folder, RUN_FILE, description):
        if finished(folder):
            return RunResult.read(folder)
        if not finished(trained):
            raise ProglocError(f"{trained} is not finished; expected the λ=0 run to measure: run the suite again")
        other = RunResult.read(trained)
        if not other.is_distributed:
            raise ProglocError(
                f"{trained} was trained with a penalty; only a run with λ = 0 is the same on other blocks"
            )
        inputs.check_blocks(config)
        write_json(folder / RUN_FILE, description)
        started = time.monotonic()
        model = load(trained / MODEL_FOLDER, config.locality)
        final = measure(model, inputs.validation, batch_size=config.training.batch_size).to_dict()
        elsewhere = None
        if inputs.elsewhere is not None:
            elsewhere = measure(model, inputs.elsewhere, batch_size=config.training.batch_size).to_dict()
        summary = other.training.copy()
        for figure in ("mean_penalty_nats_unweighted", "max_penalty_nats_unweighted", "penalty_nats_by_layer"):
            summary[figure] = None
        summary["seconds"] = time.monotonic() - started
        result = dataclasses.replace(
            other,
            name=name,
            role=role,
            config=description["config"],
            data=description["data"],
            environment=describe_environment(),
            before=before,
            final=final,
            elsewhere=elsewhere,
            epochs=tuple(
                {**{key: epoch[key] for key in _EPOCH}, "fidelity": None, "fidelity_no_sink": None}
                for epoch in other.epochs
            ),
            training=summary,
            measured_from=trained.name,
        )
        result.write(folder)
        return result
