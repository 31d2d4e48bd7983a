"""Sources, a question and an answer as one text, and how likely the answer is with any subset of the sources.

Sources are tokenised apart, so that a source's tokens do not depend on its neighbours. Under strict isolation its keys
and values do not either (method.md §14, I4): they are computed once, and a subset takes a pass of the reader's tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import AutoTokenizer, Cache, DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from progloc.accounts.effects import beginning_of, log_probs_of
from progloc.accounts.probes import Trace
from progloc.attention.isolation import READER, SHARED
from progloc.attention.request import AttentionRequest
from progloc.blocks import encode
from progloc.blocks.encoding import prefix_ids
from progloc.dialling import dialled
from progloc.errors import ProglocError
from progloc.hub import name_of, pretrained
from progloc.isolating import Layers, isolate, odds_forbidden
from progloc.measures.passes import locality_of

BETWEEN = "\n\n"
"""What ends a source."""
TOKENS_AT_ONCE = 65536 if torch.cuda.is_available() else 1024
"""Of the texts that are read as one batch; one longer than that is read alone."""


@dataclass(frozen=True)
class SourcedText:
    """Shared tokens, n sources, and a reader: the question and, where there is one, the answer."""

    ids: Tensor
    """(T,) int64."""
    roles: Tensor
    """(T,) int64: 0 … n−1 the source, else SHARED or READER."""
    answer_start: int
    """The answer's first token; T where there is none yet."""
    block_ids: Tensor | None = None
    """(T,): what a dialled model is called with."""

    @property
    def reader_start(self) -> int:
        """The first token of the question."""
        return int((self.roles == READER).nonzero()[0])

    @property
    def answer_ids(self) -> Tensor:
        """(a,)."""
        return self.ids[self.answer_start :]

    def answered(self, answer_ids: Sequence[int]) -> SourcedText:
        """Return the text with an answer at its end."""
        ids = torch.cat([self.ids[: self.answer_start], torch.tensor(answer_ids, dtype=torch.long)])
        roles = torch.cat([self.roles[: self.answer_start], torch.full((len(answer_ids),), READER)])
        return SourcedText(ids, roles, self.answer_start)

    def removed(self, subsets: Tensor) -> Tensor:
        """Return which tokens are not there with subsets of the sources (S, n) boolean, (S, T) boolean."""
        of_source = torch.nn.functional.one_hot(self.roles.clamp(min=-1) + 1, subsets.shape[1] + 1)[:, 1:]  # (T, n)
        return (~subsets).long() @ of_source.T > 0


def split_sources(sources: Sequence[tuple[str, str]]) -> tuple[list[str], list[str]]:
    """Return names and texts, each name once."""
    try:
        names, texts = [str(name) for name, _ in sources], [text for _, text in sources]
    except (TypeError, ValueError) as error:
        raise ProglocError('sources are not pairs; expected [("name", "text"), …]') from error
    for name in names:
        if names.count(name) > 1:
            raise ProglocError(f"two sources are named '{name}'; expected a name each")
    return names, texts


def tokenizer_of(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None) -> PreTrainedTokenizerBase:
    """Return the tokenizer given, else the one given to `localize`, else that of the model's folder."""
    return (
        tokenizer
        or locality_of(model).tokenizer
        or pretrained(AutoTokenizer, name_of(model), "give it: tokenizer=tokenizer")
    )


def lay_out(tokenizer: PreTrainedTokenizerBase, sources: Sequence[str], question: str) -> SourcedText:
    """Return the text that a model is to answer.

    What the tokenizer puts before a text, or else its token for the beginning of one, is shared: attention that has
    nowhere else to rest finds its sink there, whichever sources are left out.

    Args:
        tokenizer: the model's, a fast one.
        sources: their texts.
        question: what stands after them.

    Raises:
        ProglocError: a source or a question without text, or no source.
    """
    if not sources:
        raise ProglocError("no sources; expected at least one, as a pair of its name and its text")
    for place, text in enumerate((*sources, question), 1):
        if not text.strip():
            raise ProglocError(
                f"{'the question' if place > len(sources) else f'source {place}'} is empty; expected text"
            )
    prefix = list(prefix_ids(tokenizer)) or [id_ for id_ in (tokenizer.bos_token_id,) if id_ is not None]
    ids, roles = list(prefix), [SHARED] * len(prefix)
    parts = [(text.rstrip() + BETWEEN, number) for number, text in enumerate(sources)]
    for text, role in (*parts, (question, READER)):
        part = encode(tokenizer, text).input_ids.tolist()[len(prefix_ids(tokenizer)) :]
        ids += part
        roles += [role] * len(part)
    return SourcedText(torch.tensor(ids), torch.tensor(roles), len(ids))


def attention_on_sources(
    model: PreTrainedModel, text: SourcedText, read: Callable[[AttentionRequest], object]
) -> Tensor:
    """Return the answer's mean attention on each source, over layers, heads and tokens, (n,) in [0, 1].

    Args:
        model: a localised model.
        text: with its answer.
        read: reads the text, or what follows a past, to its end, with a request. Where it does so with gradients, what
            is returned has them too.

    Raises:
        ProglocError: a layer sees only a part of the text.
    """
    layers, sources = range(len(model.locality.lambdas)), int(text.roles.max()) + 1
    roles = text.roles.to(model.device)
    division = torch.where(roles >= 0, roles, sources)
    trace = Trace(layers, division, division, len(text.answer_ids))
    read(AttentionRequest(probe=trace))
    return torch.stack([trace.traced[layer].mass.mean((0, 1)) for layer in layers]).mean(0)[:sources]


class AnswerValues:
    """log p(answer | subset of the sources), the rest removed with positions kept, in nats.

    Args:
        model: a localised model, in evaluation.
        text: with its answer.
        layers: where sources are kept apart, as for `isolate`: strictly in all (None), or in none (0). Unless it is
            strictly in all, every subset is read as a whole.
        past: of what stands before the question, read as `layers` has it, where it is there already.
        progress: called after each pass with how many subsets it was for, and at once with how many were read before.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        text: SourcedText,
        *,
        layers: Layers = None,
        past: Cache | None = None,
        progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._model, self._text, self._layers, self._progress = model, text, layers, progress
        self._apart = not any(odds_forbidden(layers, len(model.locality.lambdas))) and dialled(model) is None
        self._past = past
        self._values: dict[bytes, Tensor] = {}
        if self._apart and past is None:
            start = text.reader_start
            with self._reading():
                outputs = model(
                    text.ids[None, :start].to(model.device), use_cache=True, past_key_values=DynamicCache(),
                    logits_to_keep=1,
                )  # fmt: skip
            self._past = outputs.past_key_values

    def __call__(self, subsets: Tensor) -> Tensor:
        """Return the values (S,), double, of subsets (S, n) boolean: which sources are there."""
        names = [row.numpy().tobytes() for row in subsets]
        unread = {name: row for name, row in zip(names, subsets, strict=True) if name not in self._values}
        if len(unread) < len(names):
            self._progress(len(names) - len(unread))
        tokens = len(self._text.ids) - (self._text.reader_start if self._apart else 0)
        rows = max(1, TOKENS_AT_ONCE // tokens)
        for start in range(0, len(unread), rows):
            batch = list(unread)[start : start + rows]
            removed = self._text.removed(torch.stack([unread[name] for name in batch]))
            self._values |= zip(batch, self._log_probs(~removed).sum(-1), strict=True)
            self._progress(len(batch))
        return torch.stack([self._values[name] for name in names])

    @property
    def read(self) -> int:
        """How many subsets the answer was read with; each is read once, however often it is asked for."""
        return len(self._values)

    def all_tokens(self) -> Tensor:
        """Return log p of each of the answer's tokens with all sources, (a,) in nats."""
        return self._log_probs(torch.ones(1, len(self._text.ids), dtype=torch.bool))[0]

    def mass(self) -> Tensor | None:
        """Return the answer's mean attention on each source, over layers, heads and tokens, (n,) in [0, 1].

        None where a layer sees only a part of the text.
        """
        everything = torch.ones(1, len(self._text.ids), dtype=torch.bool)
        try:
            mass = attention_on_sources(
                self._model, self._text, lambda request: self._log_probs(everything, request)
            )  # fmt: skip
        except ProglocError:
            return None
        return mass.double().cpu()

    def _log_probs(self, stays: Tensor, request: AttentionRequest | None = None) -> Tensor:
        """Return log p of the answer's tokens, (S, a), with the tokens (S, T) that are there."""
        text, model = self._text, self._model
        start = text.reader_start if self._apart else 0
        positions = torch.arange(start, len(text.ids), device=model.device)[None]
        answer = len(text.answer_ids)
        with self._reading():
            logits = model(
                text.ids[None, start:].expand(len(stays), -1).to(model.device),
                attention_mask=None if bool(stays.all()) else stays.long().to(model.device),
                position_ids=positions.expand(len(stays), -1),
                past_key_values=None if self._past is None else beginning_of(self._past, start, len(stays)),
                use_cache=self._apart,
                logits_to_keep=answer + 1,
                **({} if request is None else {"attention_request": request}),
                **({} if text.block_ids is None else {"block_ids": text.block_ids[None].to(model.device)}),
            ).logits[:, -answer - 1 : -1]
        return log_probs_of(text.answer_ids, logits)

    def _reading(self) -> AbstractContextManager[object]:
        """Isolate the sources as far as was asked for, whatever holds around."""
        return isolate(self._model, self._text.roles[: self._text.reader_start], self._layers)
