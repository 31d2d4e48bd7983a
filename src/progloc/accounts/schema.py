"""What an audit found, as plain data: the document that the page shows and that `--json` prints."""

from __future__ import annotations

__all__ = [
    "AUDIT_SCHEMA_VERSION",
    "BASELINES",
    "EFFECTS",
    "OPERATORS",
    "PICTURES",
    "WITHHELD",
    "Audit",
    "Correlation",
    "Cost",
    "Examination",
    "Faithfulness",
    "LeadingSource",
    "Picture",
    "Removal",
    "TestedBlock",
    "TracedLayer",
    "shares",
]

import dataclasses
import html
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from progloc.blocks import FloatArray
from progloc.schedules import NOT_LOCALISED

if TYPE_CHECKING:
    import pandas as pd

AUDIT_SCHEMA_VERSION = 2
PICTURES = ("mass", "mass_no_sink", "value_mass")
"""The three ways to draw the same attention; `mass_no_sink` is the one that is shown first and judged."""
EFFECTS = ("removal", "deletion", "knockout", "knockout_raw")
"""The ways to take a block away; see `TestedBlock`."""
OPERATORS = EFFECTS[:2]
"""Those that a picture has to agree with."""
BASELINES = ("recency", "last_block", "length")
"""Pictures that know nothing of the model, which one has to beat: late blocks first, the last alone, long first."""
WITHHELD = ""
"""The verdict on a picture that is shown unjudged."""
DIGITS = 5


def shares(parts: FloatArray) -> FloatArray:
    """Return parts (…, M) as shares of their sum; equal shares of nothing."""
    total = parts.sum(-1, keepdims=True)
    return np.where(total > 0, parts / np.where(total > 0, total, 1.0), 1.0 / parts.shape[-1])


@dataclass(frozen=True)
class Picture:
    """How attention is shared out over the M blocks of a prompt, three ways; each (…, M), in [0, 1], sums to 1."""

    whole: FloatArray
    """(3, …, M + 1): in the order of `PICTURES`, with the answer's own tokens last; sums to 1."""

    @property
    def mass(self) -> FloatArray:
        """m: the mass on every block, the first token's in its own block."""
        return shares(self.whole[0, ..., :-1])

    @property
    def mass_no_sink(self) -> FloatArray:
        """m°: of the mass that is not on the first token, the share on every block."""
        return shares(self.whole[1, ..., :-1])

    @property
    def value_mass(self) -> FloatArray:
        """Each key's weight times the norm of its value, as a share of the sum of these."""
        return shares(self.whole[2, ..., :-1])

    @property
    def answer_share(self) -> dict[str, FloatArray]:
        """By picture what of the whole was on the answer's own tokens, (…): no part of the picture."""
        return dict(zip(PICTURES, self.whole[..., -1], strict=True))

    def __getitem__(self, where: Any) -> Picture:
        return Picture(self.whole[:, *(where if isinstance(where, tuple) else (where,))])

    def mean(self, axis: int | tuple[int, ...]) -> Picture:
        """Return the mean over leading axes, of the whole: where little is on the prompt, it counts for little."""
        axes = (axis,) if isinstance(axis, int) else axis
        return Picture(self.whole.mean(tuple(each + 1 for each in axes)))

    def to_dict(self) -> dict[str, Any]:
        """Return lists of numbers, by name."""
        return {
            **{name: np.round(getattr(self, name), DIGITS).tolist() for name in PICTURES},
            "answer_share": {name: np.round(share, DIGITS).tolist() for name, share in self.answer_share.items()},
        }


@dataclass(frozen=True)
class TracedLayer:
    """One traced layer of a model, over the whole answer."""

    layer: int
    strength: float
    """λ(ℓ)."""
    picture: Picture
    """(M,), the mean over heads."""
    sink_mass: float
    heads: Picture
    """(H, M)."""
    head_sink_mass: tuple[float, ...]
    guaranteed_mass: float
    """In-block mass without the sink that the score margin alone guarantees, the mean over heads, [0, 1]."""
    in_block_mass: float
    """The in-block mass without the sink that there is: F° of the answer's tokens, the mean over heads."""

    @property
    def guaranteed(self) -> bool:
        """Whether the margin alone guarantees most of the mass shown: at least half of it."""
        return self.guaranteed_mass >= 0.5 * self.in_block_mass

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "layer": self.layer,
            "lambda": self.strength,
            **self.picture.to_dict(),
            "sink_mass": self.sink_mass,
            "heads": [
                {**self.heads[head].to_dict(), "sink_mass": sink} for head, sink in enumerate(self.head_sink_mass)
            ],
            "margin": {
                "guaranteed_mass": self.guaranteed_mass,
                "in_block_mass": self.in_block_mass,
                "guaranteed": self.guaranteed,
            },
        }


@dataclass(frozen=True)
class TestedBlock:
    """A block of the prompt that was taken away. Effects are log p(answer) with it less without it, in nats.

    A positive effect: without the block the answer is less likely.
    """

    block: int
    removal: float
    """The block's tokens removed, all others kept where they are."""
    deletion: float
    """The block's tokens deleted: what follows moves up."""
    knockout: float
    """Attention from the answer to the block cut in the traced layers, what is left renormalised."""
    knockout_raw: float
    """The same without renormalising."""
    whole: bool = True
    """Whether it is a source. Else the prompt's end cuts through it: it is not ranked, and in no set."""


@dataclass(frozen=True)
class Removal:
    """A set of blocks removed together, all others kept where they are."""

    blocks: tuple[int, ...]
    tokens: int
    effect: float
    """Nats, as in `TestedBlock`."""


@dataclass(frozen=True)
class Correlation:
    """How one picture agrees with one kind of effect, over the sources tested."""

    picture: str
    """One of `PICTURES`, or of `BASELINES`."""
    effect: str
    """One of `EFFECTS`."""
    rho: float | None
    """Spearman's ρ; None where either is the same for every block, or there are fewer than three."""
    low: float | None
    high: float | None
    """Its 95% bootstrap interval over blocks."""
    p_shuffled: float | None
    """How often a picture whose masses are shuffled among the blocks ranks them at least as well."""
    rho_for_size: float | None
    """ρ of what both have per token: longer blocks hold more mass and cost more to lose."""
    overlap: float | None = None
    """How much of the picture is where the effects are: Σ_b min(π_b, ε_b), [0, 1]; π are masses and ε effects above 0,
    both as shares of their sum over the sources tested. None without effects."""


@dataclass(frozen=True)
class LeadingSource:
    """The source that it costs most to lose, and what the picture makes of it. Shares are over the sources tested."""

    effect: str
    """One of `OPERATORS`."""
    block: int
    nats: float
    """The effect of losing it."""
    effect_share: float
    """Of the sum of effects above 0, [0, 1]."""
    picture_share: float
    """Of mass without the sink, [0, 1]."""
    rival_share: float
    """The most that any other source has of it."""


@dataclass(frozen=True)
class Faithfulness:
    """What the tests found. Log probabilities are of the whole answer, in nats."""

    log_prob: float
    log_prob_without: float
    """With no source left: the first token of the prompt stays, and a block that its end cuts through."""
    correlations: tuple[Correlation, ...]
    leading: tuple[LeadingSource, ...]
    """One an operator, where anything has an effect above 0."""
    top: Removal
    """The sources with the most mass (without the sink), until they hold a fifth of the tokens tested."""
    rest: Removal
    """Every other source, tested or not: the answer has to rest on `top` alone."""
    random: tuple[Removal, ...]
    """Other sets of sources of as many tokens, drawn at random."""
    sources: int
    """How many are ranked."""

    def share(self, removal: Removal) -> float | None:
        """Return an effect as a share of what losing every source costs; None where that costs nothing."""
        whole = self.log_prob - self.log_prob_without
        return removal.effect / whole if whole > 0 else None

    @property
    def comprehensiveness(self) -> float | None:
        """The share of the answer's support by its sources that goes with `top`; high where it was needed."""
        return self.share(self.top)

    @property
    def sufficiency(self) -> float | None:
        """The share of the answer's support that stays with `top` alone; high where it is enough."""
        lost = self.share(self.rest)
        return None if lost is None else 1.0 - lost

    @property
    def beaten(self) -> float | None:
        """The share of random sets whose loss costs less than that of `top`; None without any."""
        if not self.random:
            return None
        return sum(each.effect < self.top.effect for each in self.random) / len(self.random)

    @property
    def p_random(self) -> float | None:
        """How likely a random set does as well as `top`: (1 + those that cost as much) ÷ (1 + all), None without."""
        as_good = sum(each.effect >= self.top.effect for each in self.random)
        return (1 + as_good) / (1 + len(self.random)) if self.random else None

    @property
    def overlap(self) -> float | None:
        """How much of the picture is where the effects of removal are, [0, 1]; see `Correlation`."""
        return self.correlation().overlap

    @property
    def overlap_by_length(self) -> float | None:
        """The same of a picture that shades blocks by their numbers of tokens: what a good picture has to beat."""
        return self.correlation("length").overlap

    def correlation(self, picture: str = "mass_no_sink", effect: str = OPERATORS[0]) -> Correlation:
        """Return one of the correlations."""
        return next(each for each in self.correlations if (each.picture, each.effect) == (picture, effect))

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            **dataclasses.asdict(self),
            "comprehensiveness": self.comprehensiveness,
            "sufficiency": self.sufficiency,
            "random_beaten": self.beaten,
            "p_random": self.p_random,
            "overlap": self.overlap,
            "overlap_by_length": self.overlap_by_length,
        }


@dataclass(frozen=True)
class Examination:
    """One model looked at on one text: its picture, the tests of it, and the verdict."""

    model: str
    verdict: str
    """One of `progloc.accounts.VERDICTS`; `WITHHELD`: the page shows the picture and nothing of its tests."""
    reasons: tuple[str, ...]
    """Sentences, the one that decided first."""
    picture: Picture
    """(M,), the whole answer: the mean over the traced layers."""
    sink_mass: float
    layers: tuple[TracedLayer, ...] = field(repr=False)
    answer: Picture = field(repr=False)
    """(n, traced layers, M): of every token of the answer, the mean over heads."""
    answer_sink_mass: FloatArray = field(repr=False)
    """(n, traced layers)."""
    answer_heads: Picture = field(repr=False)
    """(n, traced layers, H, M)."""
    log_probs: tuple[float, ...] = field(repr=False)
    """Of every token of the answer, n numbers, nats."""
    tested: tuple[TestedBlock, ...] = ()
    faithfulness: Faithfulness | None = None
    """None where there was nothing to test: the prompt has fewer than two sources."""

    def to_dict(self, *, heads: bool) -> dict[str, Any]:
        """Return plain data.

        Args:
            heads: every token of the answer by head too, which is most of the document.
        """
        sinks = np.round(self.answer_sink_mass, DIGITS).tolist()
        return {
            "model": self.model,
            "verdict": self.verdict,
            "reasons": list(self.reasons),
            **self.picture.to_dict(),
            "sink_mass": self.sink_mass,
            "layers": [layer.to_dict() for layer in self.layers],
            "answer": [
                {
                    "log_prob": log_prob,
                    "sink_mass": sinks[n],
                    **self.answer[n].to_dict(),
                    **({"heads": self.answer_heads[n].to_dict()} if heads else {}),
                }
                for n, log_prob in enumerate(self.log_probs)
            ],
            "tested": [dataclasses.asdict(each) for each in self.tested],
            "faithfulness": None if self.faithfulness is None else self.faithfulness.to_dict(),
        }


@dataclass(frozen=True)
class Cost:
    """What an audit takes, known before it starts."""

    passes: int
    """Forward passes, those that write the answer aside."""
    tokens: int
    """Tokens in these passes together."""


@dataclass(frozen=True)
class Audit:
    """An answer, what it rested on, and whether that picture may be believed."""

    examined: Examination
    base: Examination | None
    """The same text with the model before localising, where one was given."""
    prompt: str
    answer: str
    given: bool
    """Whether the answer was given, and not written by the model."""
    tokens: tuple[str, ...] = field(repr=False)
    """The text of every token, prompt and answer; together they are the text."""
    block_ids: tuple[int, ...] = field(repr=False)
    """Each token's block, 0 … M−1 in the order of their first tokens; M: the answer, which is a side of its own."""
    answer_start: int
    """The first token of the answer."""
    blocks: str
    """The partitioner."""
    causal: bool
    """Whether it decides a token's block without what follows."""
    schedule: str | tuple[float, ...]
    dial: float | tuple[float, ...]
    cost: Cost
    seconds: float
    environment: dict[str, Any] = field(repr=False)

    @property
    def verdict(self) -> str:
        """One of `progloc.accounts.VERDICTS`."""
        return self.examined.verdict

    @property
    def localised(self) -> bool:
        """Whether the model is; else λ is 0 in every layer, and the base is just another model."""
        return self.schedule != NOT_LOCALISED

    def to_dict(self, *, heads: bool = True) -> dict[str, Any]:
        """Return the document as plain data; docs/audit.schema.json describes it.

        Args:
            heads: every token of the answer by head too.
        """
        return {
            "schema_version": AUDIT_SCHEMA_VERSION,
            **self.examined.to_dict(heads=heads),
            "base": None if self.base is None else self.base.to_dict(heads=heads),
            "text": {
                "prompt": self.prompt,
                "answer": self.answer,
                "given": self.given,
                "tokens": list(self.tokens),
                "block_ids": list(self.block_ids),
                "answer_start": self.answer_start,
            },
            "blocks": {"partitioner": self.blocks, "causal": self.causal, "count": max(self.block_ids)},
            "schedule": self.schedule,
            "dial": self.dial,
            "cost": {**dataclasses.asdict(self.cost), "seconds": round(self.seconds, 2)},
            "environment": self.environment,
        }

    def to_json(self) -> str:
        """Return `to_dict` as JSON."""
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False)

    def to_html(self) -> str:
        """Return the page that `progloc audit` writes: one document, which loads nothing."""
        from progloc.accounts.page import page  # the page is made of this

        return page(self)

    def to_frame(self) -> pd.DataFrame:
        """Return a row for each of the prompt's M blocks: its text, its share in each picture, its effects in nats.

        Effects of a block that was not taken away are NaN; `whole` says whether it is a source.
        """
        import pandas as pd

        count = max(self.block_ids)
        texts = [""] * count
        for token, block in zip(self.tokens[: self.answer_start], self.block_ids, strict=False):
            texts[block] += token
        pictures = {name: getattr(self.examined.picture, name) for name in PICTURES}
        effects = pd.DataFrame(
            [dataclasses.asdict(tested) for tested in self.examined.tested],
            columns=[field.name for field in dataclasses.fields(TestedBlock)],
        ).set_index("block")
        return pd.DataFrame({"text": texts, **pictures}).rename_axis(index="block").join(effects)

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the page, in a frame of its own."""
        page = html.escape(self.to_html(), quote=True)
        return f'<iframe srcdoc="{page}" sandbox="allow-scripts" style="width: 100%; height: 40em; border: 0"></iframe>'
