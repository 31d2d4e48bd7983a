"""Loading a model, its locality and its adapter from a folder or the hub, or saying why it cannot be had."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from progloc.adapters import base_of_adapter, file_of, put_adapter
from progloc.blocks import FloatArray
from progloc.config import SCHEMA_VERSION, LocalityConfig, from_mapping
from progloc.errors import ProglocError
from progloc.files import JsonObject, read_mapping
from progloc.hub import pretrained
from progloc.model import BLOCKS_FILE, LOCALITY_FILE, LocalModel, localize
from progloc.schedules import NOT_LOCALISED

SHOWN = 3
"""Weights named of those that are wrong."""


def load(folder: str | Path, config: LocalityConfig | None = None, **kwargs: object) -> LocalModel:
    """Load a model with its locality attached.

    Args:
        folder: a folder written by `save_pretrained`, any Hugging Face folder, or a hub name. Without `locality.json`
            it is not localised: λ is 0 in every layer (`model.locality.localised` is False), and measured in blocks of
            five tokens. An adapter's is loaded onto the model that it is for, and is as local as that one where it has
            no `locality.json` of its own.
        config: used instead of the folder's own; it localises a model that was not.
        kwargs: for `AutoModelForCausalLM.from_pretrained`. Weights are loaded in float32 unless `dtype` says otherwise.

    Raises:
        ProglocError: no such model, one with code of its own or with pickled weights only, weights that do not fit, a
            damaged `locality.json`, or an architecture that cannot be served.
    """
    return load_stored(folder, read_locality(folder, **_hub_options(kwargs)), config, **kwargs)


def load_stored(
    folder: str | Path, stored: JsonObject, config: LocalityConfig | None = None, **kwargs: object
) -> LocalModel:
    """Load a model whose `locality.json` was read before, with what `read_locality` returned; the rest is as `load`."""
    hub = _hub_options(kwargs)
    settings = config or stored_config(stored)
    base = base_of_adapter(folder, **hub)
    if base is None:
        model = _load_weights(folder, **{"dtype": torch.float32, **kwargs})
        _check_vocabulary(model, folder, **hub)
    else:
        model = load(base, config, **{name: value for name, value in kwargs.items() if name != "revision"})
        put_adapter(model, folder, **hub)
    recorded = stored.get("locality", {})
    model = localize(
        model,
        settings,
        block_table=_read_block_table(folder, **hub) if recorded.get("blocks") == settings.blocks else None,
        base_model=stored.get("base_model") if stored else str(base or folder),
        sequence_length=stored.get("sequence_length"),
    )
    if recorded.get("schedule") == settings.schedule:
        model.locality.restore(stored)
    return model


def read_locality(model: str | Path, **hub: object) -> JsonObject:
    """Return what a model's `locality.json` holds (see `Locality.to_dict`): nothing where it has none.

    Args:
        model: a folder or hub name.
        hub: where and what to ask the hub, such as ``revision`` and ``token``.

    Raises:
        ProglocError: the file is damaged, or of another version of progloc.
    """
    path = file_of(model, LOCALITY_FILE, **hub)
    if path is None:
        return {}
    stored = read_mapping(path)
    version = stored.get("schema_version")
    if version != SCHEMA_VERSION:
        raise ProglocError(f"{path} has schema version {version!r}; this progloc reads {SCHEMA_VERSION}")
    return stored


def stored_config(stored: JsonObject) -> LocalityConfig:
    """Return the configuration in what `read_locality` returned; where that is nothing, that of a plain model."""
    if not stored:
        return LocalityConfig(schedule=NOT_LOCALISED)
    return from_mapping(LocalityConfig, stored.get("locality", {}), "locality")


def _hub_options(kwargs: Mapping[str, object]) -> dict[str, object]:
    """Return those options of `from_pretrained` that say where and what to ask the hub."""
    return {name: kwargs[name] for name in ("revision", "token", "cache_dir") if name in kwargs}


def _read_block_table(model: str | Path, **hub: object) -> FloatArray | None:
    """Return what a model's `blocks.safetensors` holds, or None where it has none."""
    path = file_of(model, BLOCKS_FILE, **hub)
    if path is None:
        return None
    try:
        return load_file(path)["table"]
    except (OSError, KeyError, SafetensorError) as error:
        raise ProglocError(f"{path} is damaged ({error}); expected a file written by progloc") from error


def _load_weights(folder: str | Path, **kwargs: object) -> PreTrainedModel:
    """Return a model as transformers loads it, unless its weights are not all of the model's and nothing else.

    transformers draws what is missing at random, leaves out what it does not know, and says so in a warning.
    """
    settings = {**kwargs, "use_safetensors": True, "output_loading_info": True, "ignore_mismatched_sizes": True}
    instead = "expected a Hugging Face folder or hub name"
    with _no_report():
        model, info = pretrained(AutoModelForCausalLM, folder, instead, **settings)
    wrong = {
        "missing": info["missing_keys"],
        "unknown": info["unexpected_keys"],
        "of another shape": {
            f"{key} {tuple(there)}, not {tuple(here)}" for key, there, here in info["mismatched_keys"]
        },
        "not finite": {name for name, weight in model.named_parameters() if not _finite(weight)},
    }
    faults = [f"{len(keys)} {how} ({'; '.join(sorted(keys)[:SHOWN])}{'; …' * (len(keys) > SHOWN)})"
              for how, keys in wrong.items() if keys]  # fmt: skip
    if faults:
        raise ProglocError(
            f"the weights at '{folder}' do not fit {type(model).__name__}: {', '.join(faults)}; "
            "expected those that its own save_pretrained writes"
        )
    return model


def _finite(weight: Tensor) -> bool:
    """Whether a weight holds numbers only, as far as its type and place can tell."""
    return weight.is_meta or weight.dtype.itemsize == 1 or bool(weight.isfinite().all())


def _check_vocabulary(model: PreTrainedModel, folder: str | Path, **hub: object) -> None:
    """Raise ProglocError where the tokenizer that comes with a model gives tokens the model has no embedding for."""
    try:
        tokenizer = pretrained(AutoTokenizer, folder, "", **hub)
    except ProglocError:  # there is none, or none that can be read: who needs it says so
        return
    tokens, rows = tokenizer.vocab_size, model.get_input_embeddings().weight.shape[0]
    if tokens > rows:
        raise ProglocError(
            f"the tokenizer at '{folder}' has {tokens} tokens and {type(model).__name__} {rows} embeddings; "
            "expected that of its training"
        )


@contextlib.contextmanager
def _no_report() -> Iterator[None]:
    """Keep back transformers' report on weights that do not fit: it is an error here, in a line."""

    def is_no_report(record: logging.LogRecord) -> bool:
        return "LOAD REPORT" not in record.getMessage()

    logger = logging.getLogger("transformers.modeling_utils")
    logger.addFilter(is_no_report)
    try:
        yield
    finally:
        logger.removeFilter(is_no_report)
