"""A Hugging Face model made local, and back: attach, detach, save."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import types
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.numpy import save
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.output_capturing import maybe_install_capturing_hooks

from progloc.adapters import save_with_adapters
from progloc.attention.plugin import IMPLEMENTATION
from progloc.attention.segments import PADDING, segments, tokens_before
from progloc.blocks import NO_BLOCK, FloatArray, Partitioner, partitioner
from progloc.calls import complete_request, prepare_inputs_for_generation
from progloc.config import SCHEMA_VERSION, LocalityConfig
from progloc.errors import ProglocError
from progloc.files import JsonObject, write_bytes, write_json
from progloc.lazy import exports
from progloc.schedules import NOT_LOCALISED, Matrix, Schedule, parse_schedule
from progloc.servable import attention_modules, check_servable, probe

LOCALITY_FILE = "locality.json"
SETTINGS_OFF = {"dial": 0, "isolation": 0}
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
    tokenizer: PreTrainedTokenizerBase | None = None
    """The model's, where it was given: for blocks of generated text."""
    head_lambdas: Matrix | None = None
    """λ(ℓ, h), L rows of H, where a layer's heads differ."""
    windows: tuple[int, ...] = ()
    """Within how many tokens each layer attends, L numbers, 0 for all."""
    settings_on: dict[str, int] = field(default_factory=lambda: dict(SETTINGS_OFF))
    """How many dials and isolations that change anything are on, in any thread (`progloc.dial`, `progloc.isolate`)."""

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "settings_on": dict(SETTINGS_OFF)}  # a copy is dialled by nobody

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

    def restore(self, stored: JsonObject) -> None:
        """Take up the λ that a `locality.json` keeps, where the schedule's name alone does not say them."""
        if parse_schedule(self.config.schedule).settled or "lambdas" not in stored:
            return
        values = stored.get("head_lambdas") or stored["lambdas"]
        heads = 1 if self.head_lambdas is None else len(self.head_lambdas[0])
        self.lambdas, matrix = parse_schedule(values).resolve(len(self.lambdas), heads)
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

    def to_dict(self) -> JsonObject:
        """Return what `locality.json` holds."""
        return {
            "schema_version": SCHEMA_VERSION,
            "locality": dataclasses.asdict(self.config),
            "lambdas": self.lambdas,
            "head_lambdas": self.head_lambdas,
            "base_model": self.base_model,
            "sequence_length": self.sequence_length,
        }


if TYPE_CHECKING:

    class LocalModel(PreTrainedModel):
        """A localised model, for type checkers: it stays of its own class, and `localize` gives it a locality."""

        locality: Locality
        generate: Callable[..., Any]  # as transformers annotates it, it fits no model

else:
    LocalModel = PreTrainedModel


def _save_pretrained(model: PreTrainedModel, save_directory: str | Path, *args: object, **kwargs: object) -> None:
    """`save_pretrained` as transformers has it, and `locality.json` beside the weights."""
    wanted = model.config.output_attentions
    model.config.output_attentions = False  # transformers saves it of eager alone
    try:
        type(model).save_pretrained(model, save_directory, *args, **kwargs)
    finally:
        model.config.output_attentions = wanted
    if kwargs.get("is_main_process", True):
        _write_locality(model, Path(save_directory))


def _write_locality(model: PreTrainedModel, folder: Path) -> None:
    """Write a model's locality, if it has one, beside the weights that are saved of it."""
    locality = getattr(model, "locality", None)
    if locality is None or not locality.localised:  # nor may the folder keep what it said of one that is overwritten
        for name in (LOCALITY_FILE, BLOCKS_FILE):
            (folder / name).unlink(missing_ok=True)
        return
    if locality.partitioner.table is not None:
        write_bytes(folder / BLOCKS_FILE, save({"table": locality.partitioner.table}))
    write_json(folder / LOCALITY_FILE, locality.to_dict())


def _reduce(model: PreTrainedModel, protocol: int) -> tuple[object, ...]:
    """Say how a local model is pickled and copied: as the plain one, on the same weights, localised anew.

    transformers' hooks, which capture outputs, are closures, and no pickle takes them.
    """
    plain: _Unlocalised = model._unlocalised
    return _localised_again, (_bare(model, {}), plain.attention, model.locality)


METHODS: dict[str, Callable[..., object]] = {
    "save_pretrained": _save_pretrained,
    "prepare_inputs_for_generation": prepare_inputs_for_generation,
    "__reduce_ex__": _reduce,
}
"""What a local model does otherwise."""
CAPTURING = "_output_capturing_hooks_installed"
"""By this transformers knows a model in which it captures outputs."""


def partitioner_for(model: PreTrainedModel, blocks: str, table: FloatArray | None = None) -> Partitioner:
    """Return the partitioner of a name, ready for a model: with its input embeddings as they are now, if it needs them.

    Args:
        model: a transformers causal language model.
        blocks: the partitioner's name.
        table: what it kept of another model's embeddings, to be used instead.

    Raises:
        ProglocError: an unknown partitioner, or embeddings it cannot use.
    """
    named = partitioner(blocks)
    if not named.needs_embeddings:
        return named
    if table is not None:
        return named.with_table(table)
    return named.prepared(model.get_input_embeddings().weight.detach().float().cpu().numpy())


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
    model: PreTrainedModel,
    config: LocalityConfig | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    *,
    attn_implementation: str = IMPLEMENTATION,
    base_model: str | None = None,
    sequence_length: int | None = None,
    block_table: FloatArray | None = None,
) -> LocalModel:
    """Make a causal language model local: it then takes `block_ids`, gives log masses, and saves its locality.

    The model is changed in place and returned; its weights and, without a penalty, its outputs are what they were.
    Calling it again replaces the configuration; `delocalize` is the way back. A few tokens are run to see that it does
    as it is told.

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
    before: Locality | None = getattr(model, "locality", None)
    _refuse_settings(model, "localised anew")
    config = config or LocalityConfig()
    heads = model.config.get_text_config(decoder=True).num_attention_heads
    schedule = parse_schedule(config.schedule, config.denominator)
    lambdas, head_lambdas = schedule.resolve(len(attention_modules(model)), heads)
    name = base_model or getattr(model.config, "_name_or_path", None) or None
    if before is not None:
        name, sequence_length = base_model or before.base_model, sequence_length or before.sequence_length
        tokenizer = tokenizer or before.tokenizer
        if block_table is None and before.config.blocks == config.blocks:
            block_table = before.partitioner.table
    blocks = partitioner_for(model, config.blocks, block_table)
    windows = _windows(config, schedule, lambdas)
    lambdas = tuple(0.0 if window else strength for window, strength in zip(windows, lambdas, strict=True))
    implementation = model.config.get_text_config(decoder=True)._attn_implementation
    if before is None:
        model._unlocalised = _hook(model)
    _attach(
        model,
        Locality(config, lambdas, blocks, name, sequence_length, tokenizer, head_lambdas, windows),
        attn_implementation,
    )
    try:
        probe(model)
    except ProglocError:
        if before is None:
            delocalize(model)
        else:
            _attach(model, before, implementation)
        raise
    return model


def _parts(model: nn.Module) -> list[PreTrainedModel]:
    """Return every model within the model: which of them a wrapper (PEFT, say) calls first is not ours to know."""
    return [module for module in model.modules() if isinstance(module, PreTrainedModel)]


def _attach(model: PreTrainedModel, locality: Locality, attn_implementation: str) -> None:
    model.set_attn_implementation(attn_implementation)
    for part in (model, *_parts(model)):
        part.locality = locality


@dataclass
class _Unlocalised:
    """What a model was before it was localised, for `delocalize`."""

    model: PreTrainedModel
    """The one that `localize` was called with; PEFT, say, may have wrapped it since."""
    attention: list[tuple[PreTrainedConfig, str | None]]
    """The attention implementation of each configuration."""
    methods: dict[str, Callable[..., object]]
    """Those of `METHODS` that were the model's own, and not its class's."""
    hooks: list[RemovableHandle]
    captured: list[PreTrainedModel]
    """The models in which transformers was made to capture outputs, as it would at the first call."""


def _hook(model: PreTrainedModel) -> _Unlocalised:
    """Put what happens around calls, generation and saving in its place, and return what was there."""
    parts = _parts(model)
    configs = {id(config): config for part in parts for config in (part.config, *_sub_configs(part.config))}
    plain = _Unlocalised(
        model,
        [(config, config._attn_implementation) for config in configs.values()],
        {name: model.__dict__[name] for name in METHODS if name in model.__dict__},
        [],
        [],
    )
    for part in parts:
        names = tuple(inspect.signature(type(part).forward).parameters)[1:]  # without self
        hook = functools.partial(complete_request, names=names)
        plain.hooks.append(part.register_forward_pre_hook(hook, with_kwargs=True))
        # transformers would at the first call, under a lock no compiler traces; where it has, again would be twice
        if not any(getattr(inner, CAPTURING, False) for inner in _parts(part)):
            maybe_install_capturing_hooks(part)
            plain.captured.append(part)
    for name, method in METHODS.items():
        setattr(model, name, types.MethodType(method, model))
    return plain


def _bare(module: nn.Module, twins: dict[int, nn.Module]) -> nn.Module:
    """Return a module without what `_hook` and `_attach` put there, sharing all its weights; each module once."""
    if id(module) not in twins:
        twin = twins[id(module)] = type(module).__new__(type(module))
        added = (*METHODS, "locality", "_unlocalised", CAPTURING)
        twin.__dict__.update({name: value for name, value in module.__dict__.items() if name not in added})
        twin._modules = {name: child and _bare(child, twins) for name, child in module._modules.items()}
        for hooks, is_ours in (
            ("_forward_hooks", _captures),
            ("_forward_pre_hooks", lambda hook: getattr(hook, "func", None) is complete_request),
        ):
            rest = {key: hook for key, hook in getattr(module, hooks).items() if not is_ours(hook)}
            flags = {key: flag for key, flag in getattr(module, f"{hooks}_with_kwargs").items() if key in rest}
            twin.__dict__.update({hooks: OrderedDict(rest), f"{hooks}_with_kwargs": OrderedDict(flags)})
    return twins[id(module)]


def _localised_again(
    model: PreTrainedModel, attention: list[tuple[PreTrainedConfig, str | None]], locality: Locality
) -> LocalModel:
    """Make a plain model local with a locality that was worked out for it; see `_reduce`."""
    implementation = model.config.get_text_config(decoder=True)._attn_implementation
    for config, plain in attention:
        config._attn_implementation_internal = plain
    model._unlocalised = _hook(model)
    _attach(
        model, dataclasses.replace(locality, settings_on=dict(SETTINGS_OFF)), implementation
    )  # its own, also in a shallow copy
    return model


def _captures(hook: object) -> bool:
    """Whether a hook is one by which transformers captures outputs."""
    return getattr(hook, "__module__", None) == maybe_install_capturing_hooks.__module__


def _sub_configs(config: PreTrainedConfig) -> list[PreTrainedConfig]:
    subs = [getattr(config, name) for name in config.sub_configs]
    return [inner for sub in subs if sub is not None for inner in (sub, *_sub_configs(sub))]


def _refuse_settings(model: Any, change: str) -> None:
    """Raise ProglocError where a model is dialled or isolated and is to be changed."""
    locality = getattr(model, "locality", None)
    for participle, name, noun in (("a dialled", "dial", "dial"), ("an isolated", "isolate", "isolation")):
        if locality is not None and locality.settings_on[noun]:
            raise ProglocError(f"{participle} model cannot be {change}; leave `with {name}(…)` first")


def delocalize(model: PreTrainedModel) -> PreTrainedModel:
    """Take back what `localize` did: the model is then the one it was, its weights as they are now.

    Its attention implementation, hooks, `save_pretrained` and `prepare_inputs_for_generation` are those it had, and it
    takes no block ids. A model that is not local is returned as it is.

    Raises:
        ProglocError: the model is dialled or isolated.
    """
    plain: _Unlocalised | None = getattr(model, "_unlocalised", None)
    if plain is None:
        return model
    _refuse_settings(model, "delocalised")
    for handle in plain.hooks:
        handle.remove()
    for part in plain.captured:
        for module in part.modules():
            for key, hook in list(module._forward_hooks.items()):
                if _captures(hook):
                    del module._forward_hooks[key]
            module.__dict__.pop(CAPTURING, None)
    for config, implementation in plain.attention:
        config._attn_implementation_internal = implementation
    for name in METHODS:
        delattr(plain.model, name)
    for name, method in plain.methods.items():
        setattr(plain.model, name, method)
    for part in (model, plain.model, *_parts(model)):
        part.__dict__.pop("locality", None)
    del plain.model._unlocalised
    return model


if not TYPE_CHECKING:  # what went to loading.py; the old names are to go with 0.2
    __getattr__, __dir__ = exports(
        __name__, {"load": ".loading", "read_locality": ".loading", "stored_config": ".loading"}
    )
