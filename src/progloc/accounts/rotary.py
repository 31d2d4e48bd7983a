"""Keys moved to other positions by rotary rotation (method.md §14), where a model is seen to be rotary.

Which dimensions turn, in which pairs and how fast is not read from a model's code: keys of the same tokens at two
positions decide between the ways there are.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Turn = tuple[Tensor, Tensor]
"""Cosine and sine (S, r) of how far each of S keys turns."""


@dataclass(frozen=True, eq=False)
class Rotation:
    """How keys of one layer turn with their position."""

    frequencies: Tensor
    """(r,) float32 on the CPU: the radians by which each pair of dimensions turns from a position to the next."""
    first: int = 0
    """The first of the 2r dimensions that turn."""
    interleaved: bool = False
    """Whether neighbours are pairs; else a dimension and the one r behind it."""

    def turn(self, before: Tensor, after: Tensor) -> Turn:
        """Return cosine and sine of the angles (S, r) between positions (S,) and others.

        A model rounds its angles to float32, so what lies between two of them is not the angle of their distance.
        """
        old, new = ((at[:, None].float() * self.frequencies).double() for at in (before, after))
        return (new - old).cos(), (new - old).sin()

    def __call__(self, keys: Tensor, turn: Turn) -> Tensor:
        """Return keys (…, S, D), turned in at least float32."""
        r = len(self.frequencies)
        if not r:
            return keys
        end = self.first + 2 * r
        if self.interleaved:
            pair = slice(self.first, end, 2), slice(self.first + 1, end, 2)
        else:
            pair = slice(self.first, end - r), slice(end - r, end)
        wide = torch.promote_types(keys.dtype, torch.float32)
        cos, sin = (x.to(wide).to(keys.device) for x in turn)
        one, other = (keys[..., place].to(wide) for place in pair)
        result = keys.clone()
        result[..., pair[0]] = (one * cos - other * sin).to(keys.dtype)
        result[..., pair[1]] = (other * cos + one * sin).to(keys.dtype)
        return result


def rotation_between(
    ways: Iterable[Rotation], keys: Tensor, moved: Tensor, before: Tensor, after: Tensor, tolerance: float
) -> Rotation | None:
    """Return the rotation that makes of keys, or values, those of the same tokens elsewhere; None where none does.

    Args:
        ways: from `rotations`.
        keys: (H, S, D), at positions `before`.
        moved: (H, S, D), at positions `after`.
        before: (S,).
        after: (S,).
        tolerance: how far they may be off, as `difference` has it.
    """
    errors = [(difference(way(keys, way.turn(before, after)), moved), way) for way in ways]
    error, best = min(errors, key=lambda pair: pair[0], default=(math.inf, None))
    return best if error <= tolerance else None


def difference(x: Tensor, expected: Tensor) -> float:
    """Return the norm of a difference, as a share of what is expected."""
    return float((x.float() - expected.float()).norm() / expected.float().norm())


def rotations(model: nn.Module, width: int) -> list[Rotation]:
    """Return every way in which keys so wide could turn in a model: not at all, or by its own frequencies.

    There is none in a model without rotary embeddings, whose keys know their positions otherwise.
    """
    frequencies = [
        buffer.detach().float().cpu()
        for name, buffer in model.named_buffers()
        if name.endswith("inv_freq") and "original" not in name
    ]
    ways = [Rotation(torch.empty(0))] if frequencies else []
    for turning in frequencies:
        behind = width - 2 * len(turning)
        for first in {0, behind} if behind >= 0 else ():
            ways += [Rotation(turning, first, interleaved) for interleaved in (False, True)]
    return ways
