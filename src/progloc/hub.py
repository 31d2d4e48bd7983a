"""Asking the model and data hub whether it has a thing, before libraries that would retry for half a minute."""

from __future__ import annotations

__all__ = ["check_hub"]

from pathlib import Path
from typing import Literal

from huggingface_hub import HfApi, constants, try_to_load_from_cache

from progloc.errors import ProglocError

SECONDS = 10.0


def check_hub(name: str, kind: Literal["model", "dataset"], expected: str) -> None:
    """Raise ProglocError at once where ``name`` is no path here and the hub has no such repository.

    With HF_HUB_OFFLINE set, or a model that is in the cache, nothing is asked.

    Args:
        name: as the user gave it.
        kind: of repository.
        expected: what to give instead, for the message.
    """
    if Path(name).expanduser().exists() or constants.HF_HUB_OFFLINE:
        return
    try:
        if kind == "model" and try_to_load_from_cache(name, "config.json"):
            return
        HfApi().repo_info(name, repo_type=kind, timeout=SECONDS)
    except Exception as error:  # unknown, private, not a valid name, no network: a dozen classes of several libraries
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ProglocError(
            f"no file or folder '{name}' here, and the hub gives no such {kind} ({reason}); expected {expected}"
        ) from error
