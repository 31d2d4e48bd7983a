"""Adapters (PEFT's: LoRA and others) on a localised model: its locality is saved with them, and loaded."""

from __future__ import annotations

import functools
import importlib.util
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError
from transformers import PreTrainedModel
from transformers.utils import cached_file

from progloc.errors import ProglocError
from progloc.files import read_mapping

if TYPE_CHECKING:
    from peft import PeftModel

ADAPTER_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"


def _cached(model: str | Path, name: str, **hub: object) -> Path | None:
    try:
        path = cached_file(str(model), name, _raise_exceptions_for_missing_entries=False, **hub)
    except OSError:  # no such model: loading it says so
        return None
    return None if path is None else Path(path)


def base_of_adapter(model: str | Path, **hub: object) -> str | None:
    """Return the model that an adapter was trained on, a folder or hub name; None where ``model`` is a whole model.

    Args:
        model: a folder or hub name.
        hub: where and what to ask the hub, such as ``revision`` and ``token``.

    Raises:
        ProglocError: the adapter does not say.
    """
    path = _cached(model, ADAPTER_FILE, **hub)
    if path is None or _cached(model, "config.json", **hub) is not None:
        return None
    base: str | None = read_mapping(path).get("base_model_name_or_path")
    if not base:
        raise ProglocError(
            f"the adapter at '{model}' does not say which model it is for; expected its folder or hub name as "
            f"base_model_name_or_path in {ADAPTER_FILE}"
        )
    return base


def file_of(model: str | Path, name: str, **hub: object) -> Path | None:
    """Return where a model's file of that name is, or None: an adapter that has none of its own has its base model's.

    Args and errors: as `base_of_adapter`.
    """
    path = _cached(model, name, **hub)
    base = base_of_adapter(model, **hub) if path is None else None
    return path if base is None else file_of(base, name, **{**hub, "revision": None})


def put_adapter(model: PreTrainedModel, folder: str | Path, **hub: object) -> None:
    """Put an adapter's weights into the model that it is for, frozen.

    Raises:
        ProglocError: PEFT is not installed, or the adapter is damaged or does not fit the model.
    """
    if importlib.util.find_spec("peft") is None:
        raise ProglocError(f"'{folder}' is an adapter, which needs peft; run pip install 'progloc[adapters]'")
    if cached_file(str(folder), WEIGHTS_FILE, _raise_exceptions_for_missing_entries=False, **hub) is None:
        raise ProglocError(
            f"no {WEIGHTS_FILE} at '{folder}'; expected a folder written by PEFT, not weights in a pickle"
        )
    try:
        info = model.load_adapter(str(folder), adapter_kwargs=hub)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ProglocError(f"no adapter at '{folder}' ({reason}); expected a folder written by PEFT") from error
    wrong = sorted({*info.missing_keys, *info.unexpected_keys, *(key for key, *_ in info.mismatched_keys)})
    if wrong:
        raise ProglocError(
            f"the adapter at '{folder}' and {type(model).__name__} do not fit: {len(wrong)} weights are missing, "
            f"unknown or of another shape ({wrong[0]}); expected the model that it was trained on"
        )


@functools.cache
def save_with_adapters(write: Callable[[PeftModel, Path], None]) -> None:
    """Have PEFT, where it is installed, call ``write(model, folder)`` for each adapter's folder that it saves.

    A model does not learn that PEFT wraps it, so there is no smaller place for this than PEFT's class.
    """
    if importlib.util.find_spec("peft") is None:
        return
    from peft import PeftModel

    save = PeftModel.save_pretrained
    signature = inspect.signature(save)

    @functools.wraps(save)
    def save_pretrained(model: PeftModel, save_directory: str | Path, *args: object, **kwargs: object) -> None:
        save(model, save_directory, *args, **kwargs)
        arguments = signature.bind(model, save_directory, *args, **kwargs).arguments
        if arguments.get("is_main_process", True):
            for name in arguments.get("selected_adapters") or model.peft_config:
                write(model, Path(save_directory) if name == "default" else Path(save_directory) / name)

    PeftModel.save_pretrained = save_pretrained
