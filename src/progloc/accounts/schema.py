"""An audit's result, as plain data: the document that the page shows and that `--json` prints."""

from __future__ import annotations

import dataclasses
import html
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from progloc.accounts.pictures import DIGITS, PICTURES, Picture
from progloc.blocks import FloatArray
from progloc.files import JsonObject
from progloc.schedules import NOT_LOCALISED, Matrix

if TYPE_CHECKING:
    import pandas as pd

AUDIT_SCHEMA_VERSION = 2
EFFECTS = ("removal", "deletion", "knockout", "knockout_raw")
"""Four ways to take a block away; see `TestedBlock`."""
OPERATORS = EFFECTS[:2]
"""The effects that a picture has to agree with."""
BASELINES = ("recency", "last_block", "length")
"""Pictures that ignore the model, and that a good one has to beat: late blocks first, the last alone, long first."""
WITHHELD = ""
"""The verdict of a picture that is shown without one."""


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
    """In-block mass without the sink that was measured: F° of the answer's tokens, the mean over heads."""

    @property
    def guaranteed(self) -> bool:
        """Whether the margin alone guarantees at least half of the in-block mass."""
        return self.guaranteed_mass >= 0.5 * self.in_block_mass

    def to_dict(self) -> JsonObject:
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
    """A block of the prompt, and the effects of taking it away: log p(answer) with it minus without it, in nats.

    An effect is positive where the answer is less likely without the block.
    """

    block: int
    removal: float
    """The block's tokens are removed; all others keep their positions."""
    deletion: float
    """The block's tokens are deleted; those after it move up."""
    knockout: float
    """Attention from the answer to the block is cut in the traced layers; the rest of it is renormalised."""
    knockout_raw: float
    """The same without renormalising."""
    whole: bool = True
    """Whether it is a source. If not, it continues into the answer, is not ranked, and is in no set."""


@dataclass(frozen=True)
class Removal:
    """A set of blocks that was removed together; all others keep their positions."""

    blocks: tuple[int, ...]
    tokens: int
    effect: float
    """Nats, as in `TestedBlock`."""


@dataclass(frozen=True)
class Correlation:
    """How well one picture agrees with one kind of effect, over the tested sources."""

    picture: str
    """One of `PICTURES`, or of `BASELINES`."""
    effect: str
    """One of `EFFECTS`."""
    rho: float | None = None
    """Spearman's ρ; None where either is the same for every block, or there are fewer than three blocks."""
    low: float | None = None
    high: float | None = None
    """The 95% bootstrap interval of ρ, over blocks."""
    p_shuffled: float | None = None
    """How often a picture with its masses shuffled among the blocks ranks them at least as well."""
    rho_for_size: float | None = None
    """ρ of mass and effect per token, because longer blocks have more mass and larger effects."""
    overlap: float | None = None
    """How much of the picture lies where the effects are: Σ_b min(π_b, ε_b), [0, 1]; π are masses and ε the effects
    above 0, both as shares of their sum over the tested sources. None without effects."""


@dataclass(frozen=True)
class LeadingSource:
    """The source with the largest effect, and its share of the picture. Shares are over the tested sources."""

    effect: str
    """One of `OPERATORS`."""
    block: int
    nats: float
    """The effect of losing it."""
    effect_share: float
    """Its share of the sum of effects above 0, [0, 1]."""
    picture_share: float
    """Its share of the mass without the sink, [0, 1]."""
    rival_share: float
    """The largest share that any other source has of that mass."""


@dataclass(frozen=True)
class Faithfulness:
    """The results of the tests. Log probabilities are of the whole answer, in nats."""

    log_prob: float
    log_prob_without: float
    """With every source removed. The prompt's first token and a block that continues into the answer stay."""
    correlations: tuple[Correlation, ...]
    leading: tuple[LeadingSource, ...]
    """One per operator, where any effect is above 0."""
    top: Removal
    """The sources with the most mass (without the sink), as many as hold a fifth of the tested tokens."""
    rest: Removal
    """Every other source, tested or not; without them, the answer has only `top` to rest on."""
    random: tuple[Removal, ...]
    """Random other sets of sources with about as many tokens as `top`."""
    sources: int
    """How many sources are ranked."""

    def _share(self, removal: Removal) -> float | None:
        """Return a removal's effect as a share of that of losing every source; None where the latter is not above 0."""
        support = self.log_prob - self.log_prob_without
        return removal.effect / support if support > 0 else None

    @property
    def comprehensiveness(self) -> float | None:
        """The share of the sources' support for the answer that is lost without `top`; high where `top` was needed."""
        return self._share(self.top)

    @property
    def sufficiency(self) -> float | None:
        """The share of the sources' support for the answer that `top` alone gives; high where `top` is enough."""
        lost = self._share(self.rest)
        return None if lost is None else 1.0 - lost

    @property
    def beaten(self) -> float | None:
        """The share of random sets with a smaller effect than `top`; None without random sets."""
        smaller = sum(removal.effect < self.top.effect for removal in self.random)
        return smaller / len(self.random) if self.random else None

    @property
    def p_random(self) -> float | None:
        """The p of `top`'s effect: (1 + random sets with as large an effect) ÷ (1 + random sets); None without any."""
        as_good = sum(removal.effect >= self.top.effect for removal in self.random)
        return (1 + as_good) / (1 + len(self.random)) if self.random else None

    @property
    def overlap(self) -> float | None:
        """How much of the picture lies where the effects of removal are, [0, 1]; see `Correlation`."""
        return self.correlation().overlap

    @property
    def overlap_by_length(self) -> float | None:
        """The overlap of a picture that shades blocks by their number of tokens: a good picture has to beat it."""
        return self.correlation("length").overlap

    def correlation(self, picture: str = "mass_no_sink", effect: str = OPERATORS[0]) -> Correlation:
        """Return the correlation of one picture with one kind of effect."""
        return next(pair for pair in self.correlations if (pair.picture, pair.effect) == (picture, effect))

    def to_dict(self) -> JsonObject:
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
    """One model on one text: its picture, the tests of the picture, and the verdict."""

    model: str
    verdict: str
    """One of `progloc.accounts.verdict.VERDICTS`; or `WITHHELD`, and the page shows the picture without its tests."""
    reasons: tuple[str, ...]
    """Sentences; the decisive one comes first."""
    picture: Picture
    """(M,), of the whole answer: the mean over the traced layers."""
    sink_mass: float
    layers: tuple[TracedLayer, ...] = field(repr=False)
    answer: Picture = field(repr=False)
    """(n, traced layers, M), of each token of the answer: the mean over heads."""
    answer_sink_mass: FloatArray = field(repr=False)
    """(n, traced layers)."""
    answer_heads: Picture = field(repr=False)
    """(n, traced layers, H, M)."""
    log_probs: tuple[float, ...] = field(repr=False)
    """Of each token of the answer, n numbers, nats."""
    tested: tuple[TestedBlock, ...] = ()
    faithfulness: Faithfulness | None = None
    """None where nothing could be tested: the prompt has fewer than two sources."""

    def to_dict(self, *, heads: bool) -> JsonObject:
        """Return plain data.

        Args:
            heads: include each token of the answer by head, which is most of the document.
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
            "tested": [dataclasses.asdict(tested) for tested in self.tested],
            "faithfulness": None if self.faithfulness is None else self.faithfulness.to_dict(),
        }


@dataclass(frozen=True)
class Cost:
    """The work of an audit, known before it starts."""

    passes: int
    """Forward passes, without those that write the answer."""
    tokens: int
    """Tokens in all these passes, at most."""


@dataclass(frozen=True)
class Audit:
    """An answer, what it rested on, and whether that picture can be believed."""

    examined: Examination
    base: Examination | None
    """The model to compare with, on the same text; None without one."""
    prompt: str
    answer: str
    given: bool
    """Whether the answer was given, and not written by the model."""
    tokens: tuple[str, ...] = field(repr=False)
    """The text of each token of prompt and answer; joined, they are the text."""
    block_ids: tuple[int, ...] = field(repr=False)
    """Each token's block, 0 … M−1 in the order of their first tokens; M for every token of the answer."""
    answer_start: int
    """The position of the answer's first token."""
    blocks: str
    """The partitioner."""
    causal: bool
    """Whether the partitioner assigns a token's block without seeing what follows."""
    schedule: str | tuple[float, ...] | Matrix
    dial: float | tuple[float, ...]
    cost: Cost
    seconds: float
    environment: JsonObject = field(repr=False)

    @property
    def verdict(self) -> str:
        """One of `progloc.accounts.verdict.VERDICTS`."""
        return self.examined.verdict

    @property
    def localised(self) -> bool:
        """Whether the model is localised; if not, λ is 0 in every layer, and the base is just another model."""
        return self.schedule != NOT_LOCALISED

    @property
    def block_texts(self) -> list[str]:
        """The text of each block of the prompt, M strings."""
        texts = [""] * max(self.block_ids)
        for token, block in zip(self.tokens[: self.answer_start], self.block_ids, strict=False):
            texts[block] += token
        return texts

    def to_dict(self, *, heads: bool = True) -> JsonObject:
        """Return the document as plain data; docs/audit.schema.json describes it.

        Args:
            heads: include each token of the answer by head.
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
        """Return the page that `progloc audit` writes: one HTML document, which loads nothing."""
        from progloc.accounts.audit_page import page  # which imports this module

        return page(self)

    def to_frame(self) -> pd.DataFrame:
        """Return a row per block of the prompt: its text, its share of each picture, its effects in nats.

        Effects of a block that was not tested are NaN; `whole` says whether it is a source.
        """
        import pandas as pd

        pictures = {name: getattr(self.examined.picture, name) for name in PICTURES}
        effects = pd.DataFrame(
            [dataclasses.asdict(tested) for tested in self.examined.tested],
            columns=[field.name for field in dataclasses.fields(TestedBlock)],
        ).set_index("block")
        return pd.DataFrame({"text": self.block_texts, **pictures}).rename_axis(index="block").join(effects)

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the page, in a frame of its own."""
        page = html.escape(self.to_html(), quote=True)
        return f'<iframe srcdoc="{page}" sandbox="allow-scripts" style="width: 100%; height: 40em; border: 0"></iframe>'
