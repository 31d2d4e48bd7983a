"""A Hugging Face model made local: attach, save, load, and what cannot be served."""

from __future__ import annotations

__all__ = [
    "BLOCKS_FILE",
    "LOCALITY_FILE",
    "Locality",
    "attention_modules",
    "check_servable",
    "load",
    "localize",
    "partitioner_for",
    "read_locality",
    "stored_config",
]

import dataclasses
import functools
import inspect
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils import cached_file
from transformers.utils.output_capturing import maybe_install_capturing_hooks

from progloc.adapters import base_of_adapter, put_adapter, save_with_adapters
from progloc.attention import IMPLEMENTATION
from progloc.attention.segments import PADDING, segments, tokens_before
from progloc.blocks import NO_BLOCK, FloatArray, Partitioner, partitioner
from progloc.calls import fill_block_ids, prepare_inputs_for_generation
from progloc.config import SCHEMA_VERSION, LocalityConfig, from_mapping
from progloc.errors import ProglocError
from progloc.files import read_mapping, write_bytes, write_json
from progloc.schedules import NOT_LOCALISED, Matrix, Schedule, parse_schedule

LOCALITY_FILE = "locality.json"
FREE = 0.05
"""The λ below which a layer may be given a window: the schedule leaves it nearly all it has."""
BLOCKS_FILE = "blocks.safetensors"
"""What the partitioner keeps of the embeddings, where it needs them: `Partitioner.table`, under the name `table`."""


@dataclass
class Locality:
    """What `localize` attaches to a model as `model.locality`: its configuration, worked out for its layers."""

    config: LocalityConfig
    lambdas: tuple[float, ...]
    """λ(0) … λ(L-1); where heads differ, their means."""
    partitioner: Partitioner
    base_model: str | None = None
    """The model it was made from: a hub name or a folder."""
    sequence_length: int | None = None
    """The length it was trained at; what `progloc evaluate` reads at unless told otherwise."""
    tokenizer: Any = None
    """The model's, where it was given: for blocks of generated text."""
    head_lambdas: Matrix | None = None
    """λ(ℓ, h), L rows of H, where a layer's heads differ."""
    windows: tuple[int, ...] = ()
    """Within how many tokens each layer attends, L numbers, 0 for all."""
    turned: int = 0
    """How many dials are on, in any thread (`progloc.dial`)."""

    @property
    def localised(self) -> bool:
        """Whether a schedule was asked for; if not, λ is 0 in every layer and the blocks are for measuring alone."""
        return self.config.schedule != NOT_LOCALISED

    @property
    def schedule(self) -> str:
        """What to call λ(ℓ): a schedule's name, "explicit" for listed numbers, or "not localised"."""
        return parse_schedule(self.config.schedule, self.config.denominator).name

    @property
    def weights(self) -> Tensor:
        """What the penalty is weighted by: λ(ℓ), (L,), or λ(ℓ, h), (L, H)."""
        return torch.tensor(self.lambdas if self.head_lambdas is None else self.head_lambdas)

    def restore(self, stored: Mapping[str, Any]) -> None:
        """Take up the λ that a `locality.json` keeps, where the schedule's name alone does not say them."""
        if parse_schedule(self.config.schedule).settled or "lambdas" not in stored:
            return
        kept = stored.get("head_lambdas") or stored["lambdas"]
        heads = 1 if self.head_lambdas is None else len(self.head_lambdas[0])
        self.lambdas, matrix = parse_schedule(kept).resolve(len(self.lambdas), heads)
        self.head_lambdas = matrix

    @property
    def granularity(self) -> tuple[int, ...]:
        """Which of the partitioner's G granularities each layer has: equal shares, the first in the first layers."""
        layers = len(self.lambdas)
        return tuple(layer * self.partitioner.granularities // layers for layer in range(layers))

    def block_ids(self, documents: Tensor) -> Tensor:
        """Return block ids (B, T), or (B, T, G), from positions within documents alone.

        Args:
            documents: (B, T), from `documents_in`; no two share a block.

        Raises:
            ProglocError: the partitioner needs the text; the caller has to pass `block_ids`.
        """
        ids = self.partitioner.from_positions(tokens_before(segments(documents)))
        if ids is None:
            raise ProglocError(
                f"the blocks '{self.config.blocks}' need the text, so the model must be given block_ids; "
                "progloc.data.with_block_ids(dataset, partitioner) adds them"
            )
        if ids.ndim == 3:
            documents = documents[..., None]
        ids = ids + documents * (ids.amax() + 1)
        return ids.masked_fill(documents == PADDING, NO_BLOCK)

    def to_dict(self) -> dict[str, Any]:
        """Return what `locality.json` holds."""
        return {
            "schema_version": SCHEMA_VERSION,
            "locality": dataclasses.asdict(self.config),
            "lambdas": self.lambdas,
            "head_lambdas": self.head_lambdas,
            "base_model": self.base_model,
            "sequence_length": self.sequence_length,
        }


def attention_modules(model: nn.Module) -> list[nn.Module]:
    """Return the model's causal self-attention modules, input to output; their number is L."""
    found = [m for m in model.modules() if getattr(m, "is_causal", None) is True and hasattr(m, "layer_idx")]
    return sorted(found, key=lambda module: int(module.layer_idx))  # type: ignore[arg-type]


def check_servable(model: Any) -> None:
    """Raise ProglocError, naming the architecture and the reason, unless progloc can serve ``model`` rightly."""

    def refuse(reason: str) -> None:
        raise ProglocError(
            f"{type(model).__name__} cannot be localised: {reason}; expected a decoder-only model with softmax "
            "attention through transformers' AttentionInterface, such as gpt2, llama, mistral, qwen2, olmo or gpt_neox"
        )

    config = model.config.get_text_config(decoder=True)
    if getattr(model.config, "is_encoder_decoder", False):
        refuse("it is an encoder-decoder")
    if not model._can_set_attn_implementation():
        refuse("its attention does not go through AttentionInterface")
    if getattr(config, "is_causal", True) is False:
        refuse("its attention sees later tokens")
    if getattr(config, "attn_logit_softcapping", None) is not None:
        refuse("its attention scores are soft-capped")
    if any(name.rsplit(".", 1)[-1] == "sinks" for name, _ in model.named_parameters()):
        refuse("its attention has learned sinks")
    layers = len(attention_modules(model))
    if layers != config.num_hidden_layers:
        refuse(f"{layers} of its {config.num_hidden_layers} layers are causal softmax attention")


def _save_pretrained(model: Any, save_directory: str | Path, *args: Any, **kwargs: Any) -> None:
    """`save_pretrained` as transformers has it, and `locality.json` beside the weights."""
    asked, model.config.output_attentions = (
        model.config.output_attentions,
        False,
    )  # transformers saves it of eager alone
    try:
        type(model).save_pretrained(model, save_directory, *args, **kwargs)
    finally:
        model.config.output_attentions = asked
    if kwargs.get("is_main_process", True):
        _write_locality(model, Path(save_directory))


def _write_locality(model: Any, folder: Path) -> None:
    """Write a model's locality, if it has one, beside the weights that are saved of it."""
    locality = getattr(model, "locality", None)
    if locality is None or not locality.localised:  # nor may the folder keep what it said of one that is overwritten
        for name in (LOCALITY_FILE, BLOCKS_FILE):
            (folder / name).unlink(missing_ok=True)
        return
    if locality.partitioner.table is not None:
        write_bytes(folder / BLOCKS_FILE, save({"table": locality.partitioner.table}))
    write_json(folder / LOCALITY_FILE, locality.to_dict())


def partitioner_for(model: Any, blocks: str, table: FloatArray | None = None) -> Partitioner:
    """Return the partitioner of a name, ready for a model: with its input embeddings as they are now, if it needs them.

    Args:
        model: a transformers causal language model.
        blocks: the partitioner's name.
        table: what it kept of another model's embeddings, to be used instead.

    Raises:
        ProglocError: an unknown partitioner, or embeddings it cannot use.
    """
    found = partitioner(blocks)
    if not found.needs_embeddings:
        return found
    if table is not None:
        return found.with_table(table)
    return found.prepared(model.get_input_embeddings().weight.detach().float().cpu().numpy())


def _windows(config: LocalityConfig, schedule: Schedule, lambdas: Sequence[float]) -> tuple[int, ...]:
    """Return within how many tokens each layer attends; 0: to all."""
    if config.window is None:
        return (0,) * len(lambdas)
    if not schedule.settled:
        raise ProglocError(
            f"a window with the schedule '{schedule.name}', whose λ training finds; expected one that says beforehand "
            "which layers are free, such as quintic"
        )
    return tuple(config.window if strength < FREE else 0 for strength in lambdas)


def localize(
    model: Any,
    config: LocalityConfig | None = None,
    tokenizer: Any = None,
    *,
    attn_implementation: str = IMPLEMENTATION,
    base_model: str | None = None,
    sequence_length: int | None = None,
    block_table: FloatArray | None = None,
) -> Any:
    """Make a causal language model local: it then takes `block_ids`, gives log masses, and saves its locality.

    The model is changed in place and returned; its weights and, without a penalty, its outputs are what they were.
    Calling it again replaces the configuration.

    Args:
        model: a transformers causal language model (`check_servable` says which).
        config: schedule, blocks and α; the defaults if None.
        tokenizer: the model's, for blocks of text that a dialled model generates; by default that of its folder.
        attn_implementation: "progloc", or "progloc_reference" for the materialised definition.
        base_model: recorded in `locality.json`; by default what was recorded, else the name the model was loaded by.
        sequence_length: recorded in `locality.json`, as the length it is trained at; by default what was recorded.
        block_table: for blocks made of embeddings, what was kept of those they are to be made of; by default of the
            model's own as they are now, or, where it was local with the same blocks already, as they were then.

    Raises:
        ProglocError: an architecture that cannot be served, or a schedule that does not fit its number of layers.
    """
    check_servable(model)
    save_with_adapters(_write_locality)
    config = config or LocalityConfig()
    heads = model.config.get_text_config(decoder=True).num_attention_heads
    schedule = parse_schedule(config.schedule, config.denominator)
    lambdas, head_lambdas = schedule.resolve(len(attention_modules(model)), heads)
    name = base_model or getattr(model.config, "_name_or_path", None) or None
    model.set_attn_implementation(attn_implementation)
    before = getattr(model, "locality", None)
    first_time = before is None
    if before is not None:
        name, sequence_length = base_model or before.base_model, sequence_length or before.sequence_length
        tokenizer = tokenizer or before.tokenizer
        if block_table is None and before.config.blocks == config.blocks:
            block_table = before.partitioner.table
    blocks = partitioner_for(model, config.blocks, block_table)
    windows = _windows(config, schedule, lambdas)
    lambdas = tuple(0.0 if window else strength for window, strength in zip(windows, lambdas, strict=True))
    model.locality = Locality(config, lambdas, blocks, name, sequence_length, tokenizer, head_lambdas, windows)
    # on every model within the model: which of them a wrapper (PEFT, say) calls first is not ours to know
    for part in (module for module in model.modules() if isinstance(module, PreTrainedModel)):
        part.locality = model.locality
        if first_time:
            names = tuple(inspect.signature(type(part).forward).parameters)[1:]  # without self
            part.register_forward_pre_hook(functools.partial(fill_block_ids, names=names), with_kwargs=True)
            maybe_install_capturing_hooks(part)  # transformers would at the first call, under a lock no compiler traces
    if first_time:
        model.save_pretrained = types.MethodType(_save_pretrained, model)
        model.prepare_inputs_for_generation = types.MethodType(prepare_inputs_for_generation, model)
    return model


def read_locality(model: str | Path, **hub: Any) -> dict[str, Any] | None:
    """Return what a model's `locality.json` holds (see `Locality.to_dict`), or None where it has none.

    Args:
        model: a folder or hub name.
        hub: where and what to ask the hub, such as ``revision`` and ``token``.
    """
    try:
        found_at = cached_file(str(model), LOCALITY_FILE, _raise_exceptions_for_missing_entries=False, **hub)
    except OSError:  # no such model: loading it says so
        return None
    if found_at is None:
        return None
    path = Path(found_at)
    found = read_mapping(path)
    if found.get("schema_version") != SCHEMA_VERSION:
        version = found.get("schema_version")
        raise ProglocError(f"{path} has schema version {version!r}; this progloc reads {SCHEMA_VERSION}")
    return found


def stored_config(stored: Mapping[str, Any] | None) -> LocalityConfig:
    """Return the configuration in a `locality.json`; without one, that of a model which is not localised."""
    if not stored:
        return LocalityConfig(schedule=NOT_LOCALISED)
    return from_mapping(LocalityConfig, stored.get("locality", {}), "locality")


def _read_block_table(model: str | Path, **hub: Any) -> FloatArray | None:
    """Return what a model's `blocks.safetensors` holds, or None where it has none."""
    found_at = cached_file(str(model), BLOCKS_FILE, _raise_exceptions_for_missing_entries=False, **hub)
    if found_at is None:
        return None
    try:
        return load_file(found_at)["table"]
    except (OSError, KeyError, SafetensorError) as error:
        raise ProglocError(f"{found_at} is damaged ({error}); expected a file written by progloc") from error


def load(folder: str | Path, config: LocalityConfig | None = None, **kwargs: Any) -> Any:
    """Load a model with its locality attached.

    Args:
        folder: a folder written by `save_pretrained`, any Hugging Face folder, or a hub name. Without `locality.json`
            it is not localised: λ is 0 in every layer (`model.locality.localised` is False), and measured in blocks of
            five tokens. An adapter's is loaded onto the model that it is for, and is as local as that one where it has
            no `locality.json` of its own.
        config: used instead of the folder's own; it localises a model that was not.
        kwargs: for `AutoModelForCausalLM.from_pretrained`. Weights are loaded in float32 unless `dtype` says otherwise.

    Raises:
        ProglocError: no such model, a damaged `locality.json`, or an architecture that cannot be served.
    """
    hub = {name: kwargs[name] for name in ("revision", "token", "cache_dir") if name in kwargs}
    stored = read_locality(folder, **hub) or {}
    settings = config or stored_config(stored)
    base = base_of_adapter(folder, **hub)
    try:
        if base is None:
            model = AutoModelForCausalLM.from_pretrained(folder, **{"dtype": torch.float32, **kwargs})
        else:
            model = load(base, config, **{name: value for name, value in kwargs.items() if name != "revision"})
            put_adapter(model, folder, **hub)
            if not stored:
                return model
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ProglocError(
            f"no model at '{folder}' ({str(error).splitlines()[0]}); expected a Hugging Face folder or hub name"
        ) from error
    same_blocks = stored.get("locality", {}).get("blocks") == settings.blocks
    model = localize(
        model,
        settings,
        block_table=_read_block_table(folder, **hub) if same_blocks else None,
        base_model=stored.get("base_model") if stored else str(folder),
        sequence_length=stored.get("sequence_length"),
    )
    if stored.get("locality", {}).get("schedule") == settings.schedule:
        model.locality.restore(stored)
    return model
