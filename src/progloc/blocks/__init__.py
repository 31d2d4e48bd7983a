"""Partitioners: text and tokens in, block ids out."""

from progloc.blocks.embeddings import EmbeddingPartitioner, Similarity, SimilarityClusters
from progloc.blocks.encoding import TextFromIds, encode, encode_after, prefix_ids
from progloc.blocks.entities import Entities
from progloc.blocks.paragraphs import Paragraphs
from progloc.blocks.partitioning import (
    NO_BLOCK,
    Fixed,
    FloatArray,
    IntArray,
    Mixture,
    Partitioner,
    TokenisedText,
    is_fixed,
    partitioner,
    register_partitioner,
)
from progloc.blocks.phrases import Arguments, Phrases
from progloc.blocks.recruited import Recruited
from progloc.blocks.sentences import Sentences
from progloc.lazy import exports

__all__ = [
    "NO_BLOCK",
    "Arguments",
    "EmbeddingPartitioner",
    "Entities",
    "Fixed",
    "FloatArray",
    "IntArray",
    "Mixture",
    "Paragraphs",
    "Partitioner",
    "Phrases",
    "Recruited",
    "Sentences",
    "Similarity",
    "SimilarityClusters",
    "TextFromIds",
    "TokenisedText",
    "encode",
    "encode_after",
    "is_fixed",
    "partitioner",
    "prefix_ids",
    "register_partitioner",
]

__getattr__, __dir__ = exports(__name__, {"BlocksSoFar": "so_far"})  # torch is loaded with it
