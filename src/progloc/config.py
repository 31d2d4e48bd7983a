"""Every setting, as frozen dataclasses that read and write YAML and JSON.

One class a concern: `LocalityConfig` (what the penalty is, method.md §4-§5), `TrainingConfig` (how it trains, §6) and
`RunConfig` (a model, a text and the two above). Unknown keys and values out of range are errors that name the key.
"""

from __future__ import annotations

import dataclasses
import math
import re
import types
import typing
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TypeVar

import yaml

from progloc.blocks import partitioner
from progloc.errors import ProglocError, suggest
from progloc.files import JsonObject
from progloc.schedules import Schedule, listed_values, parse_schedule

if TYPE_CHECKING:
    from progloc.objective import Penalty

SCHEMA_VERSION = 1
ADAPTATIONS = 32
"""Evaluations of a training whose α adapts: it can change at each of them."""

SAMPLED = "sampled"
"""A setting of the dial, or of isolation, that is drawn anew for every micro-batch."""

T = TypeVar("T")


class _Range(NamedTuple):
    """Which values of its type a setting takes."""

    expected: str
    holds: Callable[[Any], bool]


_COUNT = _Range("a whole number ≥ 1", lambda value: value >= 1)
_AT_LEAST_TWO = _Range("a whole number ≥ 2", lambda value: value >= 2)
_SEED = _Range("a whole number from 0 to 4294967295", lambda value: 0 <= value < 2**32)
_NOT_NEGATIVE = _Range("a number ≥ 0", lambda value: 0 <= value < math.inf)
_POSITIVE = _Range("a number > 0", lambda value: 0 < value < math.inf)
_POSITIVE_SHARE = _Range("a share > 0", _POSITIVE.holds)
_SHARE = _Range("a share in (0, 1)", lambda value: 0 < value < 1)
_SHARE_OR_ZERO = _Range("a share in [0, 1)", lambda value: 0 <= value < 1)
_SHARE_OR_ONE = _Range("a share in (0, 1]", lambda value: 0 < value <= 1)
_ISOLATION = _Range(
    "'sources', 'sources:K' with K layers, or 'sampled'",
    lambda value: re.fullmatch(r"sources(:\d{1,4})?|sampled", value) is not None,
)
_DIAL = _Range(
    "a number in [0, 1] or 'sampled'",
    lambda value: value == SAMPLED or (not isinstance(value, str) and 0 <= value <= 1),
)


def _check(condition: bool, name: str, value: object, expected: str) -> None:
    if not condition:
        raise ProglocError(f"{name} is {value!r}; expected {expected}")


def _check_ranges(config: object) -> None:
    """Raise ProglocError where a setting is not among its literals, or out of its range."""
    for name, hint in typing.get_type_hints(type(config), include_extras=True).items():
        value, origin, options = getattr(config, name), typing.get_origin(hint), typing.get_args(hint)
        if origin is Literal:
            _check(value in options, name, value, " or ".join(map(repr, options)))
        elif origin is Annotated:
            optional = type(None) in typing.get_args(options[0])
            if not (optional and value is None):
                _check(options[1].holds(value), name, value, options[1].expected + ", or nothing" * optional)


@dataclass(frozen=True)
class LocalityConfig:
    """What is penalised, where, and how much (method.md §4, §5, §8)."""

    schedule: str | tuple[float, ...] | tuple[tuple[float, ...], ...] = "quintic"
    """λ(ℓ): a schedule's name (see `progloc schedule`), one number in [0, 1] a layer, or a list of them: one a head."""
    blocks: str = "fixed:5"
    """The partitioner's name (see `progloc blocks`)."""
    alpha: Annotated[float, _NOT_NEGATIVE] = 0.05
    """α, the penalty coefficient, ≥ 0."""
    reduction: Literal["sum", "mean"] = "sum"
    """Σ over layers of λ(ℓ)·p (the paper's reading), or that divided by the number of layers."""
    denominator: Literal["L-1", "L"] = "L-1"
    """What ℓ is divided by in a polynomial schedule: L-1 as in the paper's tables, or L as in its formula."""
    sink_aware: bool = False
    """Leave the mass on a document's first token out of the account: a pretrained model parks attention there."""
    fidelity_target: Annotated[float | None, _SHARE_OR_ONE] = None
    """Tokens with at least this in-block mass pay nothing, in (0, 1]; without one all pay."""
    previous_block: bool = False
    """Let the block before a token's own count as its own."""
    window: Annotated[int | None, _COUNT] = None
    """Make layers that the schedule leaves free (λ < 0.05, which then counts as 0) attend sparsely: each token to its
    own chunk of so many tokens, the chunk before, and the first token (paper §5.4.2)."""
    clip: Annotated[float | None, _SHARE] = None
    """Clamp in-block mass to at least this before the logarithm (the paper: 1e-6); log-space needs none."""

    @property
    def parsed_schedule(self) -> Schedule:
        """λ(ℓ) as a function of the number of layers."""
        return parse_schedule(self.schedule, self.denominator)

    @property
    def penalty(self) -> Penalty:
        """What a token pays."""
        from progloc.objective import Penalty  # torch is loaded with it, and reading settings needs none

        return Penalty(self.sink_aware, self.fidelity_target, self.previous_block, self.clip)

    def __post_init__(self) -> None:
        _check_ranges(self)
        _check(isinstance(self.blocks, str), "blocks", self.blocks, "a partitioner's name")
        partitioner(self.blocks)
        if not isinstance(self.schedule, str):
            object.__setattr__(self, "schedule", listed_values(self.schedule))
        _ = self.parsed_schedule  # raises where it is none


@dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained: two stages, what is kept, the optimiser (method.md §6; the paper's defaults)."""

    epochs: Annotated[int, _COUNT] = 20
    max_steps: Annotated[int | None, _COUNT] = None
    """Stop after this many optimiser steps, however many epochs that is."""
    exploration: Annotated[float, _SHARE_OR_ZERO] = 0.25
    """The share of the steps that is stage 1 (the paper: 5 of 20 epochs)."""
    exploration_alpha: Annotated[float, _NOT_NEGATIVE] = 0.1
    """What α is multiplied by in stage 1."""
    exploration_temperature: Annotated[float, _POSITIVE] = 1.5
    """What attention scores are divided by in stage 1; the paper gives no value, and 1.0 turns it off."""
    learning_rate: Annotated[float, _POSITIVE] = 5e-5
    warmup: Annotated[float, _SHARE_OR_ZERO] = 0.0
    """The share of the steps over which the learning rate rises to that, before it falls to 0."""
    batch_size: Annotated[int, _COUNT] = 8
    accumulation: Annotated[int, _COUNT] = 4
    """Micro-batches a step: the effective batch is batch_size × accumulation."""
    max_grad_norm: Annotated[float, _POSITIVE] = 1.0
    fused_loss: bool = False
    """Compute the training loss without making logits: the same to rounding; refused for a model that needs them."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """What a training step computes in. Weights, their updates, the penalty and every measurement stay in float32."""
    patience: Annotated[int | None, _COUNT] = 5
    """Stop after this many evaluations of stage 2 without a better one; None never stops early."""
    select: Literal["objective", "perplexity"] = "objective"
    """What the kept checkpoint is best at, on validation, within stage 2: CE + α·Σλp, or perplexity (the paper)."""
    evaluations: Annotated[int | None, _COUNT] = None
    """Evaluate about this many times, evenly spread; by default once an epoch, or 32 times where α adapts."""
    budget: Annotated[float | None, _POSITIVE_SHARE] = None
    """Adapt α so that locality costs this share of perplexity (0.01: +1%) beside a training without a penalty, which
    is made first. With `isolation: sampled`, say instead in how many layers sources may be kept apart at that price."""
    dial: Annotated[float | Literal["sampled"] | None, _DIAL] = None
    """Train with the model dialled: at one δ in [0, 1], where it is then measured too, or, for one checkpoint that
    serves the whole dial, at a δ drawn anew for every micro-batch."""
    isolation: Annotated[str | None, _ISOLATION] = None
    """Train with a sequence's blocks kept apart, as sources of what follows them: in all layers ("sources"), in the
    first K ("sources:K"), or, for one checkpoint that serves all K, in a number of layers drawn for every micro-batch
    ("sampled"). It is measured so too, and with isolation off."""
    truth: Annotated[float, _NOT_NEGATIVE] = 0.0
    """α_t: the weight of 1 − Pearson's r of a reader's attention on the sources and their exact effects."""
    distil: bool = False
    """Learn from the model as it is before training, with dial and isolation off, instead of from the text."""
    fidelity_goal: Annotated[float | None, _SHARE] = None
    """Adapt α so that fidelity off the sink, weighted by λ over layers, comes to this."""
    lambda_learning_rate: Annotated[float, _POSITIVE] = 0.1
    """Of the logits of a `learnable` schedule, for a gradient in nats."""
    seed: Annotated[int, _SEED] = 0

    @property
    def adapts(self) -> bool:
        """Whether α is adapted; the setting is then where it starts."""
        names_layers = self.isolation == SAMPLED
        return (self.budget is not None and not names_layers) or self.fidelity_goal is not None

    @property
    def evaluated(self) -> int | None:
        """How many times it is evaluated; None for once an epoch."""
        return ADAPTATIONS if self.evaluations is None and self.adapts else self.evaluations

    def __post_init__(self) -> None:
        _check_ranges(self)
        both = self.budget is not None and self.fidelity_goal is not None
        _check(not both, "fidelity_goal", self.fidelity_goal, "nothing beside a budget: one of the two")
        _check(not (self.distil and self.fused_loss), "fused_loss", True, "false beside distil, which needs logits")
        _check(not self.truth or self.isolation == "sources", "truth", self.truth, "0, or isolation: sources beside it")


@dataclass(frozen=True)
class RunConfig:
    """One training run, whole: the model, the text, the locality and the training."""

    model: str = "scratch:tiny"
    """A hub name, a folder, or `scratch:tiny`."""
    corpus: str = "python-docs"
    """A text file, a folder of them, a `datasets` name, or `python-docs`."""
    second_corpus: str | None = None
    """Another text, as `corpus`: the trained model is measured on it too, for the price elsewhere."""
    sequence_length: Annotated[int, _AT_LEAST_TWO] = 128
    validation_fraction: Annotated[float, _SHARE] = 0.2
    split_seed: int = 0
    """Draws the split. Kept apart from `training.seed`, so that every seed is judged on the same tokens."""
    max_sequences: Annotated[int | None, _AT_LEAST_TWO] = None
    """Fine-tune and validate on no more than this many sequences in all, drawn by `split_seed`."""
    locality: LocalityConfig = field(default_factory=LocalityConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        _check_ranges(self)
        starts = not self.training.adapts or self.locality.alpha > 0
        _check(starts, "locality.alpha", self.locality.alpha, "a number > 0 to start from, where a goal adapts it")


def _convert(value: Any, hint: Any, key: str) -> Any:
    """Convert what YAML or JSON holds to the type a field is annotated with, or raise naming the key."""
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return value if isinstance(value, hint) else from_mapping(hint, value, key)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in options:
            return None
        for option in options:
            if option is not type(None):
                with suppress(ProglocError):
                    return _convert(value, option, key)
        raise ProglocError(f"{key} is {value!r}; expected {hint}")
    if origin is Literal:
        _check(value in options, key, value, " or ".join(map(repr, options)))
        return value
    if origin is dict:
        _check(isinstance(value, Mapping), key, value, "names, each with its settings")
        return {str(name): _convert(item, options[1], f"{key}.{name}") for name, item in value.items()}
    if origin is tuple:
        _check(isinstance(value, list | tuple), key, value, "a list of numbers")
        return tuple(_convert(item, options[0], key) for item in value)
    if hint is float and isinstance(value, int | str) and not isinstance(value, bool):
        with suppress(ValueError):
            return float(value)  # of text too, because YAML 1.1 reads 5e-5 as text
    _check(isinstance(value, hint) and not (hint is int and isinstance(value, bool)), key, value, hint.__name__)
    return value


def from_mapping(cls: type[T], mapping: Mapping[str, object], where: str = "") -> T:
    """Build the dataclass ``cls`` from what YAML or JSON holds; ``where`` is the path to it, for messages.

    Raises:
        ProglocError: an unknown key, a value of the wrong type or out of range; the message names the key.
    """
    if not isinstance(mapping, Mapping):
        raise ProglocError(f"{where or 'the configuration'} is {mapping!r}; expected settings as 'key: value'")
    prefix = f"{where}." if where else ""
    hints = typing.get_type_hints(cls)
    settings = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    values = {}
    for key, value in mapping.items():
        if key not in settings:
            raise ProglocError(f"unknown setting '{prefix}{key}'; {suggest(str(key), settings)}")
        values[key] = _convert(value, hints[key], f"{prefix}{key}")
    for name, setting in settings.items():
        if name not in values and setting.default is setting.default_factory is dataclasses.MISSING:
            raise ProglocError(f"the setting '{prefix}{name}' is missing; it has no default")
    return cls(**values)


def read_config(path: Path) -> JsonObject:
    """Read a YAML (or JSON) file of settings and return it as a mapping; raises ProglocError where it is none."""
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ProglocError(f"no configuration file at {path}") from error
    except OSError as error:
        raise ProglocError(f"cannot read {path}: {error.strerror}; expected a YAML file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ProglocError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(loaded, dict):
        raise ProglocError(f"{path} holds {type(loaded).__name__}; expected settings as 'key: value'")
    return loaded
