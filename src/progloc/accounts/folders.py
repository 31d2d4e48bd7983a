"""Audits of models by their folders or hub names: what `progloc audit` does."""

from __future__ import annotations

__all__ = ["NO_BASE", "audit_folder", "base_of", "open_models"]

from collections.abc import Callable, Sequence
from typing import Any

from progloc.accounts.audit import audit
from progloc.accounts.schema import Audit
from progloc.errors import ProglocError
from progloc.resolve import NamedModel, resolve

NO_BASE = "none"
"""As a base: nothing is set beside the audited model."""


def base_of(named: NamedModel, given: str | None, say: Callable[[str], None] = lambda _: None) -> NamedModel | None:
    """Return the model to set beside another on its blocks, or None: the given one, else the recorded one.

    Args:
        named: the audited model, from `resolve`.
        given: a run's folder, a Hugging Face folder, a hub name, or "none"; by default what `locality.json` records,
            where it can be had.
        say: hears in one line why the recorded one is left out.

    Raises:
        ProglocError: the model cannot be had.
    """
    if given is not None:
        return None if given == NO_BASE else resolve(given, blocks=named.config.blocks)
    if named.base is None:
        return None
    try:
        return resolve(named.base, blocks=named.config.blocks)
    except ProglocError:
        say(f"alone: the model it was made from, {named.base}, cannot be had here; --base MODEL sets one beside it")
        return None


def open_models(named: NamedModel, base: NamedModel | None) -> tuple[Any, Any, Any]:
    """Return a model, the one to set beside it (or None), and their tokenizer.

    Raises:
        ProglocError: a model that cannot be had or localised.
    """
    return named.load(), None if base is None else base.load(), named.load_tokenizer()


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
    """Audit a model's answer; for what is not named here see `audit`, `resolve` and `base_of`."""
    if not prompt.strip():
        raise ProglocError("the prompt is empty; expected some text that is answered, as in --prompt 'A class is'")
    named = resolve(model, schedule=schedule, blocks=blocks)
    loaded, beside, tokenizer = open_models(named, base_of(named, base, say))
    delta = dial[0] if isinstance(dial, tuple) and len(dial) == 1 else dial
    return audit(loaded, prompt, continuation, tokenizer=tokenizer, base=beside, dial=delta, **settings)
