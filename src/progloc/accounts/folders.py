"""Audit models by folder or hub name, as `progloc audit` does."""

from __future__ import annotations

__all__ = ["NO_BASE", "audit_folder", "open_models", "resolve_base"]

from collections.abc import Callable, Sequence
from typing import Any

from progloc.accounts.auditing import audit
from progloc.accounts.schema import Audit
from progloc.errors import ProglocError
from progloc.resolve import NamedModel, resolve

NO_BASE = "none"
"""As a base: the audited model is not compared with any other."""


def resolve_base(named: NamedModel, base: str | None, say: Callable[[str], None] = lambda _: None) -> NamedModel | None:
    """Return the model to compare an audited one with, on the same blocks; None for no comparison.

    Args:
        named: the audited model, from `resolve`.
        base: a run's folder, a Hugging Face folder, a hub name, or "none"; by default the model that `locality.json`
            records, where it is available.
        say: called with one line that says why the recorded model is left out.

    Raises:
        ProglocError: the given model is not available.
    """
    if base is not None:
        return None if base == NO_BASE else resolve(base, blocks=named.config.blocks)
    if named.base is None:
        return None
    try:
        return resolve(named.base, blocks=named.config.blocks)
    except ProglocError:
        say(f"alone: the model it was made from, {named.base}, cannot be had here; --base MODEL sets one beside it")
        return None


def open_models(named: NamedModel, base: NamedModel | None) -> tuple[Any, Any, Any]:
    """Return the audited model, its base (or None), and their tokenizer.

    Raises:
        ProglocError: a model is not available, or cannot be localised.
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
    """Audit a model's answer; the parameters are those of `audit`, `resolve` and `resolve_base`."""
    if not prompt.strip():
        raise ProglocError("the prompt is empty; expected some text that is answered, as in --prompt 'A class is'")
    named = resolve(model, schedule=schedule, blocks=blocks)
    loaded, loaded_base, tokenizer = open_models(named, resolve_base(named, base, say))
    delta = dial[0] if isinstance(dial, tuple) and len(dial) == 1 else dial
    return audit(loaded, prompt, continuation, tokenizer=tokenizer, base=loaded_base, dial=delta, **settings)
