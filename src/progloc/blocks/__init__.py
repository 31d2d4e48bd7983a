"""Partitioners: text and tokens in, block ids out."""

from progloc.blocks.base import (
    IntArray,
    Partitioner,
    TokenisedText,
    partitioner,
    positions_in,
    register_partitioner,
)
from progloc.blocks.fixed import Fixed

__all__ = ["Fixed", "IntArray", "Partitioner", "TokenisedText", "partitioner", "positions_in", "register_partitioner"]
