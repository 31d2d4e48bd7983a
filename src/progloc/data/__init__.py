"""From a corpus to batches: reading, tokenising, blocks, splits and collation."""

from progloc.data.collate import collate
from progloc.data.corpora import Corpus, load_corpus
from progloc.data.sequences import Split, split, tokenise, with_block_ids

__all__ = ["Corpus", "Split", "collate", "load_corpus", "split", "tokenise", "with_block_ids"]
