"""Audits of models by their folders or hub names: what `progloc audit` does."""

from __future__ import annotations

__all__ = ["NO_BASE", "audit_folder", "base_of", "open_models"]

from collections.abc import Callable, Sequence
from typing import Any

from progloc.accounts.audit import audit
from progloc.accounts.schema import Audit
from progloc.data import Corpus
from progloc.errors import ProglocError
from progloc.evaluation import configured
from progloc.model import load
from progloc.training.inputs import load_tokenizer

NO_BASE = "none"
"""As a base: nothing is set beside the audited model."""


def base_of(model: str, given: str | None, say: Callable[[str], None] = lambda _: None) -> str | None:
    """Return the model to set beside another, or None: the given one, else the one that `locality.json` records.

    Args:
        model: see `open_models`.
        given: a folder, a hub name, or "none"; by default the recorded one, where it can be had.
        say: hears in one line why the recorded one is left out.

    Raises:
        ProglocError: the model cannot be had.
    """
    if given is not None:
        return None if given == NO_BASE else given
    _, _, stored = configured(model)
    recorded = stored.get("base_model")
    if recorded is None:
        return None
    try:
        configured(recorded)
    except ProglocError:
        say(f"alone: the model it was made from, {recorded}, cannot be had here; --base MODEL sets one beside it")
        return None
    return str(recorded)


def open_models(
    model: str,
    base: str | None = None,
    *,
    schedule: str | tuple[float, ...] | None = None,
    blocks: str | None = None,
) -> tuple[Any, Any, Any]:
    """Return a model, the one to set beside it (or None) on the same blocks, and their tokenizer.

    Args:
        model: a run's folder, a Hugging Face folder, or a hub name. Without `locality.json` it is not localised.
        base: likewise; None: nothing.
        schedule: instead of the model's own.
        blocks: instead of the model's own.

    Raises:
        ProglocError: a model that cannot be had or localised.
    """
    folder, config, _ = configured(model, schedule, blocks)
    loaded = load(folder, config)
    tokenizer = load_tokenizer(folder, Corpus("prompt", ""))
    if base is None:
        return loaded, None, tokenizer
    return loaded, load(*configured(base, blocks=config.blocks)[:2]), tokenizer


def audit_folder(
    model: str,
    prompt: str,
    continuation: str | None = None,
    *,
    base: str | None = None,
    schedule: str | tuple[float, ...] | None = None,
    blocks: str | None = None,
    dial: float | Sequence[float] = 0.0,
    say: Callable[[str], None] = lambda _: None,
    **settings: Any,
) -> Audit:
    """Audit a model's answer; for what is not named here see `audit`, `base_of` and `open_models`."""
    if not prompt.strip():
        raise ProglocError("the prompt is empty; expected some text that is answered, as in --prompt 'A class is'")
    loaded, beside, tokenizer = open_models(model, base_of(model, base, say), schedule=schedule, blocks=blocks)
    delta = dial[0] if isinstance(dial, tuple) and len(dial) == 1 else dial
    return audit(loaded, prompt, continuation, tokenizer=tokenizer, base=beside, dial=delta, **settings)
