"""Partitioners: text and tokens in, block ids out."""

from progloc.blocks.arguments import Arguments
from progloc.blocks.base import (
    NO_BLOCK,
    IntArray,
    Partitioner,
    TokenisedText,
    partitioner,
    register_partitioner,
)
from progloc.blocks.entities import Entities
from progloc.blocks.fixed import Fixed
from progloc.blocks.paragraphs import Paragraphs
from progloc.blocks.phrases import Phrases
from progloc.blocks.sentences import Sentences

__all__ = [
    "NO_BLOCK",
    "Arguments",
    "Entities",
    "Fixed",
    "IntArray",
    "Paragraphs",
    "Partitioner",
    "Phrases",
    "Sentences",
    "TokenisedText",
    "partitioner",
    "register_partitioner",
]
