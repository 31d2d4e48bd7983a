"""Partitioners: text and tokens in, block ids out."""

from progloc.blocks.arguments import Arguments
from progloc.blocks.base import (
    NO_BLOCK,
    FloatArray,
    IntArray,
    Partitioner,
    TokenisedText,
    partitioner,
    register_partitioner,
)
from progloc.blocks.embeddings import EmbeddingPartitioner
from progloc.blocks.encoding import encode, encode_after, prefix_ids
from progloc.blocks.entities import Entities
from progloc.blocks.fixed import Fixed
from progloc.blocks.mixture import Mixture
from progloc.blocks.paragraphs import Paragraphs
from progloc.blocks.phrases import Phrases
from progloc.blocks.recruited import Recruited
from progloc.blocks.sentences import Sentences
from progloc.blocks.similarity import Similarity, SimilarityClusters
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
    "TokenisedText",
    "encode",
    "encode_after",
    "partitioner",
    "prefix_ids",
    "register_partitioner",
]

__getattr__, __dir__ = exports(__name__, {"BlocksSoFar": "so_far"})  # torch is loaded with it
