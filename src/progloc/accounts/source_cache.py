"""Keys and values of sources, computed once and used again in other prompts (method.md §14).

Under strict isolation they depend on a source's tokens, the shared ones and its position alone, so that a hash of these
is their name: in memory, and in a folder that processes may share.
"""

from __future__ import annotations

import hashlib
import os
import threading
import warnings
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from progloc.accounts.effects import beginning_of
from progloc.accounts.rotary import Rotation, difference, rotation_between, rotations
from progloc.accounts.sources import SourcedText, lay_out, split_sources, tokenizer_of
from progloc.attention.isolation import SHARED
from progloc.data.cache import key_of
from progloc.dialling import dialled
from progloc.errors import ProglocError
from progloc.files import one_writer, write_bytes
from progloc.generation import check_context, context_length
from progloc.isolating import isolate
from progloc.measures.passes import evaluating, locality_of

FORMAT = 1
"""Of the files; raised whenever the same source would be kept otherwise."""
DIGEST = "sha256"
"""A file's tensor beside keys and values: the hash of its name and of these."""
FOLLOWS_LENGTH = {"dynamic", "longrope"}
"""Rotary embeddings whose frequencies depend on how long the text is."""
TOLERANCE, COARSE = 1e-3, 0.2
"""How far rounding may move a layer's keys or values, as a share of them; and in half precision."""

Part = tuple[Tensor, ...]
"""Keys and values of a source or of what is shared: of each layer (H_kv, S, D) and (H_kv, S, D')."""
Span = tuple[int, int]
"""The first token of a part, and the first behind it."""


class SourceCache:
    """Keys and values of sources, kept for other prompts of the same model.

    A prompt whose sources are kept is read from its question on. Without `move` a source is found again at the same
    position behind the same shared tokens, and what the model then writes is what it writes isolated. With `move` a
    source is read directly behind the shared tokens, wherever it stands, and its keys are turned to its position: it is
    found again in any order and beside any others. Where no token is shared that is the same; else a source no longer
    sees the shared tokens from where it stands, which changes what the model makes of it (docs/isolation.md has how
    much). What is kept is dropped when the model's weights change. Threads may share a cache, and processes a folder.

    Args:
        model: from `localize` or `load`.
        tokenizer: the model's; by default the one given to `localize`, else that of its folder.
        move: whether sources may be found at other positions than their own.
        memory_bytes: of what is kept in memory, at most, ≥ 0; what was used longest ago goes first.
        folder: where sources are kept on disk too, for as long as it has room; keep it as private as the sources.
        folder_bytes: of the files in it, at most, ≥ 0; likewise.

    Raises:
        ProglocError: a model that was not localised, whose rotary frequencies follow the text's length, or a size < 0.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        tokenizer: PreTrainedTokenizerBase | None = None,
        move: bool = False,
        memory_bytes: int = 2**30,
        folder: str | Path | None = None,
        folder_bytes: int = 2**34,
    ) -> None:
        for name, value in (("memory_bytes", memory_bytes), ("folder_bytes", folder_bytes)):
            if value < 0:
                raise ProglocError(f"{name}={value}; expected ≥ 0")
        locality_of(model)
        rope = getattr(model.config.get_text_config(decoder=True), "rope_parameters", None) or {}
        types = {part.get("rope_type") for part in (rope, *rope.values()) if isinstance(part, dict)}
        for kind in types & FOLLOWS_LENGTH:
            raise ProglocError(
                f"the rotary frequencies of this model ('{kind}') follow the length of the "
                "text, so its sources cannot be kept; call account without a cache"
            )
        self.model, self.move = model, move
        self.folder = None if folder is None else Path(folder).expanduser()
        self._tokenizer = tokenizer
        self._memory_bytes, self._folder_bytes = memory_bytes, folder_bytes
        self._parts: OrderedDict[str, Part] = OrderedDict()
        self._nbytes = 0
        self._lock = threading.Lock()
        self._state: list[object] = []
        self._fingerprint = ""
        self._rotations: list[Rotation] = []

    @property
    def nbytes(self) -> int:
        """How many bytes are kept in memory."""
        return self._nbytes

    def prompt(self, sources: Sequence[tuple[str, str]], question: str | Sequence[str]) -> dict[str, Any]:
        """Return what `generate` takes to answer from sources: ``model.generate(**cache.prompt(sources, question))``.

        A past serves one call, for generation adds to it. With beams or several answers a question, first call
        ``past_key_values.batch_repeat_interleave(n)``, as with any past that `generate` is given. While another thread
        isolates the model, generate within ``isolate(model, layers=0)``.

        Args:
            sources: pairs of a name and a text, at least one.
            question: what stands after them, or B questions of one batch.

        Returns:
            `input_ids` and `attention_mask`, (B, T), shorter questions padded before their first token, and
            `past_key_values` of all that stands before the questions.

        Raises:
            ProglocError: as `account` and `past` do.
        """
        tokenizer = tokenizer_of(self.model, self._tokenizer)
        questions = [question] if isinstance(question, str) else list(question)
        if not questions:
            raise ProglocError("no question; expected a text, or several")
        texts = [lay_out(tokenizer, split_sources(sources)[1], text) for text in questions]
        start, longest = texts[0].reader_start, max(len(text.ids) for text in texts)
        check_context(self.model, longest)
        ids, mask = torch.zeros(2, len(texts), longest, dtype=torch.long)
        for row, text in enumerate(texts):
            tokens = len(text.ids) - start
            ids[row, :start], ids[row, longest - tokens :] = text.ids[:start], text.ids[start:]
            mask[row, :start] = mask[row, longest - tokens :] = 1
        past = self.past(texts[0])
        if len(texts) > 1:
            past = beginning_of(past, start, len(texts))
        device = self.model.device
        return {"input_ids": ids.to(device), "attention_mask": mask.to(device), "past_key_values": past}

    def past(self, text: SourcedText) -> DynamicCache:
        """Return keys and values of all that stands before a text's question, a new cache to go on from.

        What is missing is read in one pass: sources behind the shared tokens, each at its position.

        Raises:
            ProglocError: the model is dialled, keeps no plain past, does not take positions or, with `move`, is not
                rotary or has windows shorter than the text.
        """
        if dialled(self.model) is not None:
            raise ProglocError("sources are kept of the model as it is; leave `with dial(…)` first")
        self._follow_weights()
        window = self._shortest_window()
        if self.move and text.reader_start > window:
            raise ProglocError(
                f"sources of {text.reader_start} tokens in all, of which some layers see {window:.0f}; "
                "expected SourceCache(model) without move"
            )
        names = {span: self._name(text, span) for span in _spans(text)}
        parts = {name: part for name in set(names.values()) if (part := self._recall(name)) is not None}
        missing = {name: span for span, name in names.items() if name not in parts}
        if missing:
            # through a window a source sees as much of what is shared as its distance leaves: that takes the whole text
            spans = list(missing.values() if text.reader_start <= window else names)
            parts |= {names[span]: part for span, part in self._read(text, spans).items()}
            for name in missing:
                self._keep(name, parts[name])
            if self.folder is not None:
                self._write({name: parts[name] for name in missing})
        pieces = zip(*(parts[name] for name in names.values()), strict=True)
        tensors = [torch.cat(piece, 1).to(self.model.device) for piece in pieces]
        before, after = torch.cat([self._positions(text, span) for span in names]), torch.arange(text.reader_start)
        if self.move:
            turns = {rotation: rotation.turn(before, after) for rotation in set(self._rotations)}
            tensors = [rotation(x, turns[rotation]) for rotation, x in zip(self._rotations, tensors, strict=True)]
        past = DynamicCache()
        for layer, (keys, values) in enumerate(zip(tensors[::2], tensors[1::2], strict=True)):
            past.update(keys[None], values[None], layer)
        return past

    def _positions(self, text: SourcedText, span: Span) -> Tensor:
        """Return the positions (S,) at which a part of a text is read."""
        first = min(span[0], int((text.roles == SHARED).sum())) if self.move else span[0]
        return torch.arange(first, first + span[1] - span[0])

    def _name(self, text: SourcedText, span: Span) -> str:
        """Return what a part of a text is kept under."""
        shared = text.ids[text.roles == SHARED].tolist()
        device = self.model.device.type
        precision = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else self.model.dtype
        position = int(self._positions(text, span)[0])
        return key_of(FORMAT, self._fingerprint, str(precision), shared, text.ids[slice(*span)].tolist(), position)

    def _read(self, text: SourcedText, spans: Sequence[Span]) -> dict[Span, Part]:
        """Return parts of a text, read in one pass behind what is shared."""
        shared = [span for span in _spans(text) if text.roles[span[0]] == SHARED]
        read = [*shared, *(span for span in spans if span not in shared)]
        ids, roles = (torch.cat([x[slice(*span)] for span in read]) for x in (text.ids, text.roles))
        tensors = self._keys_and_values(ids, roles, torch.cat([self._positions(text, span) for span in read]))
        lengths = [stop - start for start, stop in read]
        parts = zip(read, zip(*(x.split(lengths, 1) for x in tensors), strict=True), strict=True)
        # copies, for a view would keep the whole pass
        return {span: tuple(x.clone() for x in part) for span, part in parts if span in spans}

    def _keys_and_values(self, ids: Tensor, roles: Tensor, positions: Tensor) -> Part:
        """Return those of tokens (T,) that are read in one pass."""
        device, past = self.model.device, DynamicCache()
        with evaluating(self.model), isolate(self.model, roles):
            self.model(
                ids[None].to(device), position_ids=positions[None].to(device), past_key_values=past, use_cache=True,
                logits_to_keep=1,
            )  # fmt: skip
        tensors = tuple(x[0] for layer in past.layers for x in (layer.keys, layer.values))
        if not tensors or any(x.ndim != 3 or x.shape[1] != len(ids) for x in tensors):
            raise ProglocError(
                f"{type(self.model).__name__} does not keep keys and values of every token; call without a cache"
            )
        return tensors

    def _shortest_window(self) -> float:
        """Return how many tokens all layers see."""
        layers = DynamicCache(config=self.model.config).layers
        windows = [getattr(layer, "sliding_window", None) for layer in layers]
        windows += locality_of(self.model).windows
        return min((float(window) for window in windows if window), default=float("inf"))

    def _follow_weights(self) -> None:
        """Drop what is kept where the model is not the one that it is of."""
        with self._lock:
            state = _state(self.model)
            if state == self._state:
                return
            self._parts.clear()
            self._nbytes = 0
            if self.folder is not None:
                about = f"{self.model.config.to_json_string()}{_adapters(self.model)}"
                self._fingerprint = _digest(about, _tensors(self.model)).hex()
            self._probe()
            self._state = state

    def _probe(self) -> None:
        """Read a few tokens at other places, and raise ProglocError unless they can be kept and, if asked, moved."""
        words = self.model.config.get_text_config(decoder=True).vocab_size
        tokens = (words // 4 + torch.arange(7) * max(words // 64, 1)) % words
        roles = torch.tensor([SHARED, *[0] * 3, *[1] * 3])
        places, source = torch.arange(7), torch.arange(4, 7)
        name, tolerance = type(self.model).__name__, TOLERANCE if self.model.dtype.itemsize >= 4 else COARSE
        together = self._keys_and_values(tokens, roles, places)
        there = roles != 0
        apart = self._keys_and_values(tokens[there], roles[there], places[there])
        for one, other in zip(together, apart, strict=True):
            if difference(other[:, 1:], one[:, 4:]) > tolerance:
                raise ProglocError(f"{name} does not follow positions, so sources cannot be kept; call without a cache")
        if not self.move:
            return
        far = source + min(context_length(self.model.config) or 1024, 1024) - 7
        near, moved = (self._keys_and_values(tokens[4:], roles[4:], at) for at in (source, far))
        ways = {width: rotations(self.model, width) for width in {x.shape[-1] for x in near}}
        turning = [
            rotation_between(ways[one.shape[-1]], one, other, source, far, tolerance)
            for one, other in zip(near, moved, strict=True)
        ]
        self._rotations = [rotation for rotation in turning if rotation is not None]
        if len(self._rotations) < len(turning):
            raise ProglocError(
                f"keys of {name} do not turn with their position; expected SourceCache(model) without move, which "
                "finds a source at its own position"
            )

    def _recall(self, name: str) -> Part | None:
        """Return what is kept under a name, in memory or else in the folder."""
        with self._lock:
            if name in self._parts:
                self._parts.move_to_end(name)
                return self._parts[name]
        if self.folder is None:
            return None
        path = self.folder / f"{name}.safetensors"
        try:
            tensors = load(path.read_bytes())
            digest = bytes(tensors.pop(DIGEST).tolist())
            part = tuple(tensors[str(number)] for number in range(len(tensors)))
            if digest != _digest(name, part):
                raise ValueError
            os.utime(path)  # used now
        except OSError:
            return None
        except (SafetensorError, KeyError, ValueError):
            warnings.warn(f"{path} is damaged; its source is read again", RuntimeWarning, stacklevel=4)
            return None
        self._keep(name, part)
        return part

    def _keep(self, name: str, part: Part) -> None:
        """Keep a part in memory, and let go of what was used longest ago where there is too much."""
        with self._lock:
            self._nbytes += _nbytes(part) - _nbytes(self._parts.pop(name, ()))
            self._parts[name] = part
            while self._nbytes > self._memory_bytes:
                self._nbytes -= _nbytes(self._parts.popitem(last=False)[1])

    def _write(self, parts: Mapping[str, Part]) -> None:
        """Keep parts in the folder too, and remove the files used longest ago where there are too many."""
        assert self.folder is not None
        try:
            with one_writer(self.folder, wait=True):
                for part_of_one in self.folder.glob(".*.part"):
                    part_of_one.unlink()  # of a process that was killed: none but this one writes
                for name, part in parts.items():
                    digest = torch.tensor(list(_digest(name, part)), dtype=torch.uint8)
                    tensors = {str(number): x.cpu() for number, x in enumerate(part)}
                    write_bytes(self.folder / f"{name}.safetensors", save({**tensors, DIGEST: digest}))
                files = sorted((path.stat().st_mtime_ns, path) for path in self.folder.glob("*.safetensors"))
                sizes = [path.stat().st_size for _, path in files]
                for place, (_, path) in enumerate(files):
                    if sum(sizes[place:]) > self._folder_bytes:
                        path.unlink()
        except (OSError, ProglocError) as error:
            warnings.warn(f"sources are not kept in {self.folder} ({error})", RuntimeWarning, stacklevel=3)


def _spans(text: SourcedText) -> list[Span]:
    """Return where the parts of a text before its question lie: what is shared, and every source."""
    ends = (text.roles[1:] != text.roles[:-1]).nonzero()[:, 0] + 1
    bounds = [0, *(end for end in ends.tolist() if end <= text.reader_start)]
    return list(pairwise(bounds))


def _nbytes(part: Part) -> int:
    return sum(x.nbytes for x in part)


def _tensors(model: nn.Module) -> list[Tensor]:
    """Return a model's weights and what else it computes with."""
    return [x.detach() for x in (*model.parameters(), *model.buffers()) if x.numel()]


def _adapters(model: nn.Module) -> str:
    """Return which of PEFT's adapters are at work in a model."""
    names = ("_active_adapter", "_disable_adapters", "merged_adapters", "scaling")
    layers = [vars(module) for module in model.modules() if "merged_adapters" in vars(module)]
    return str([[layer.get(name) for name in names] for layer in layers])


def _state(model: nn.Module) -> list[object]:
    """Return what is another after any change of a model's weights that is not of a few numbers behind torch's back.

    torch counts what is written in place, but for what is written to `.data`: of that a few numbers a tensor tell.
    """
    tensors = _tensors(model)
    places = [(x.data_ptr(), x.dtype, 0 if x.is_inference() else x._version) for x in tensors]
    sums = [x.reshape(-1)[:: max(1, x.numel() // 16)].float().sum().cpu() for x in tensors]
    return [_adapters(model), *places, *torch.stack(sums).tolist()]


def _digest(name: str, tensors: Iterable[Tensor]) -> bytes:
    """Return a SHA-256 of a name and of tensors."""
    digest = hashlib.sha256(name.encode())
    for tensor in tensors:
        digest.update(tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.digest()
