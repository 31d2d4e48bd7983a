"""What is had by name: whether the hub has it, before libraries retry for half a minute, and opening it safely."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import HfApi, constants, try_to_load_from_cache
from safetensors import SafetensorError
from transformers import GenerationConfig

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


def name_of(model: Any) -> str:
    """Return the folder or hub name that a model was had from; its class where it was had from none."""
    return str(getattr(model.config, "_name_or_path", "") or type(model).__name__)


def pretrained(auto: Any, name: str | Path, instead: str, **kwargs: object) -> Any:
    """Return `auto.from_pretrained(name, …)`. Whatever a folder holds is data: none of it is run or unpickled.

    Args:
        auto: one of transformers' `Auto…` classes.
        name: a folder or hub name.
        instead: what to do where it cannot be had, for the message.
        kwargs: for `from_pretrained`.

    Raises:
        ProglocError: it is not there, damaged, or takes Python code or a pickle of its own.
    """
    what = "tokenizer" if auto.__name__ == "AutoTokenizer" else "model"
    if kwargs.pop("trust_remote_code", False):
        raise ProglocError(f"trust_remote_code=True for '{name}'; progloc runs no code that comes with a model")
    try:
        return auto.from_pretrained(name, trust_remote_code=False, **kwargs)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        settings = Path(name) / "generation_config.json"
        if (
            isinstance(error, ValueError)
            and what == "model"
            and "generation_config" not in kwargs
            and settings.exists()
        ):
            # transformers opens no model whose settings contradict each other; here, whoever generates judges them
            opened = pretrained(auto, name, instead, **kwargs, generation_config=GenerationConfig())
            model = opened[0] if isinstance(opened, tuple) else opened
            for setting, value in json.loads(settings.read_text(encoding="utf-8")).items():
                setattr(model.generation_config, setting, value)
            return opened
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        if "trust_remote_code" in str(error):
            reason = "it comes with Python code of its own, which progloc does not run"
        elif what == "model" and "safetensors" in reason and any(Path(name).glob("pytorch_model*.bin*")):
            reason = (
                "its weights are in pytorch_model.bin, a pickle, which can run code; where you trust it, convert it: "
                f"python -c \"from transformers import AutoModelForCausalLM as M; m='{name}'; "
                'M.from_pretrained(m).save_pretrained(m)"'
            )
        raise ProglocError(f"no {what} at '{name}' ({reason}); {instead}") from error
