"""What a benchmark is asked to time, and what it times unless told otherwise."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from typing import Any

import torch

from progloc.errors import ProglocError
from step_timing.variants import Shape, Variant, variants

HEAD_DIMENSION = 64
LENGTHS = {"cpu": "128,1024", "cuda": "128x32,128,1024,2048,4096,8192,16384"}
TOKENS = {"cpu": 1024, "cuda": 32768}
REPEATS = {"cpu": 5, "cuda": 20}
"""By device, what takes it about ten minutes. 128x32 is the small batch of ordinary fine-tuning."""


@dataclass(frozen=True)
class Settings:
    """One benchmark of a GPT-2."""

    device: str
    """"cpu" or "cuda"."""
    shapes: tuple[Shape, ...]
    repeats: int
    """Timed steps of each variant."""
    layers: int = 12
    width: int = 768
    vocabulary: int = 50257
    compiled: bool = False
    """Whether compiled variants are timed too."""
    only: str = ""
    """A regular expression for the names of the variants timed; what they stand against is too."""
    seed: int = 0
    """Draws weights, tokens, blocks and the order of steps."""

    def __post_init__(self) -> None:
        for name in ("repeats", "layers", "width"):
            if getattr(self, name) < 1:
                raise ProglocError(f"--{name} {getattr(self, name)}; expected a whole number ≥ 1")
        if self.width > HEAD_DIMENSION and self.width % HEAD_DIMENSION:
            raise ProglocError(f"--width {self.width}; expected a multiple of {HEAD_DIMENSION}, or less than that")
        try:
            found = self.variants
        except re.error:
            found = ()
        if not found:
            names = ", ".join(f"'{variant.name}'" for variant in variants(self.compiled))
            raise ProglocError(f"--only '{self.only}'; expected a regular expression found in one of {names}")

    @property
    def variants(self) -> tuple[Variant, ...]:
        """What is timed at each shape."""
        return variants(self.compiled, self.only)

    @property
    def heads(self) -> int:
        """One for each 64 channels, as in GPT-2."""
        return max(1, self.width // HEAD_DIMENSION)

    @property
    def precision(self) -> str:
        """What a step computes in."""
        return "bfloat16 autocast" if self.device == "cuda" else "float32"


def _shape(text: str, tokens: int) -> Shape:
    """Return the batch that `T` or `TxB` stands for; T alone is as many sequences as make ``tokens``, at least one."""
    found = re.fullmatch(r"([0-9]{1,6})(?:x([0-9]{1,6}))?", text.strip())
    if not found or int(found[1]) < 2 or found[2] == "0":
        expected = "lengths ≥ 2 separated by commas, as in 128,1024; 128x32 for a batch of 32"
        raise ProglocError(f"--lengths has '{text}'; expected {expected}")
    length = int(found[1])
    return Shape(length, int(found[2]) if found[2] else max(1, tokens // length))


def settings_for(
    lengths: str | None = None, tokens: int | None = None, compiled: bool = False, **given: Any
) -> Settings:
    """Return the settings that options stand for on this machine.

    Args:
        lengths: sequence lengths T separated by commas; `TxB` also says how many sequences a batch has.
        tokens: tokens a step, where the batch is not given.
        compiled: time compiled variants too.
        given: further fields of `Settings`.

    Raises:
        ProglocError: an option that cannot be used; ``compiled`` on a CPU without a C++ compiler.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if tokens is not None and tokens < 1:
        raise ProglocError(f"--tokens {tokens}; expected a whole number ≥ 1")
    lengths = LENGTHS[device] if lengths is None else lengths
    shapes = [_shape(text, tokens or TOKENS[device]) for text in lengths.split(",")]
    if compiled and device == "cpu" and not any(map(shutil.which, (os.environ.get("CXX", "g++"), "clang++"))):
        raise ProglocError("--compile needs a C++ compiler on a CPU; install g++, or leave --compile out")
    return Settings(device, tuple(dict.fromkeys(shapes)), **{"repeats": REPEATS[device], **given}, compiled=compiled)
