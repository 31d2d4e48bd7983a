"""The command line: parse, call, print. What it calls is the same library a script would."""

import os

# read by the libraries when they are imported: their bars and notices would run through ours
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("HF_HUB_VERBOSITY", "error")
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from progloc.cli.options import app
from progloc.cli.running import main

__all__ = ["app", "main"]
