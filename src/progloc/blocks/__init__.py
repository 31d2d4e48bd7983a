"""Partitioners: text and tokens in, block ids out."""

from progloc.blocks.base import (
    NO_BLOCK,
    IntArray,
    Partitioner,
    TokenisedText,
    partitioner,
    register_partitioner,
)
from progloc.blocks.fixed import Fixed

__all__ = ["NO_BLOCK", "Fixed", "IntArray", "Partitioner", "TokenisedText", "partitioner", "register_partitioner"]
