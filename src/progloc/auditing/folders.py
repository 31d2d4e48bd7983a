"""Audits of models by their folders or hub names: what `progloc audit` does."""

from __future__ import annotations

__all__ = ["RECORDED", "audit_folder", "open_models"]

from collections.abc import Sequence
from typing import Any

from progloc.auditing.audit import audit
from progloc.auditing.report import Audit
from progloc.data import Corpus
from progloc.errors import ProglocError
from progloc.evaluation import configured
from progloc.model import load
from progloc.training.inputs import SCRATCH, load_tokenizer

RECORDED = "recorded"
"""As a base: the model that `locality.json` says the audited one was made from."""


def open_models(
    model: str,
    base: str | None = None,
    *,
    schedule: str | tuple[float, ...] | None = None,
    blocks: str | None = None,
) -> tuple[Any, Any, Any]:
    """Return a model, the one to set beside it (or None) with the same locality, and their tokenizer.

    Args:
        model: a run's folder, a Hugging Face folder, or a hub name. Without `locality.json` it is read as quintic with
            `fixed:5`.
        base: likewise, or "recorded" for the one that the model was made from.
        schedule: instead of the model's own.
        blocks: instead of the model's own.

    Raises:
        ProglocError: a model that cannot be had or localised, or no base recorded.
    """
    folder, config, stored = configured(model, schedule, blocks)
    if base == RECORDED:
        base = stored.get("base_model")
        if base is None or base.startswith(SCRATCH):
            raise ProglocError(
                f"{folder} records {base or 'nothing'} as its base; name a folder or hub name: --base MODEL"
            )
    loaded = load(folder, config)
    tokenizer = load_tokenizer(folder, Corpus("prompt", ""))
    if base is None:
        return loaded, None, tokenizer
    return loaded, load(configured(base)[0], config), tokenizer


def audit_folder(
    model: str,
    prompt: str,
    continuation: str | None = None,
    *,
    base: str | None = None,
    schedule: str | tuple[float, ...] | None = None,
    blocks: str | None = None,
    dial: float | Sequence[float] = 0.0,
    **settings: Any,
) -> Audit:
    """Audit a model's answer; for what is not named here see `audit`, and `open_models`."""
    if not prompt.strip():
        raise ProglocError("the prompt is empty; expected some text that is answered, as in --prompt 'A class is'")
    loaded, beside, tokenizer = open_models(model, base, schedule=schedule, blocks=blocks)
    delta = dial[0] if isinstance(dial, tuple) and len(dial) == 1 else dial
    return audit(loaded, prompt, continuation, tokenizer=tokenizer, base=beside, dial=delta, **settings)
