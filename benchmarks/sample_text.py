"""Write a text that lies within a model's own domain: what it writes when it is told nothing.

    python benchmarks/sample_text.py MODEL OUT.txt --texts 600

Texts are drawn one by one at temperature 1 from the model's first token on, until it ends them, and stand one after
another with an empty line between. A study on them asks of a model what it can do best.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from progloc.files import write_text
from progloc.hub import pretrained
from scripts import run_script, script_parser

AT_ONCE = 64
INSTEAD = "expected a Hugging Face folder or hub name"


def sample(model: Any, tokenizer: Any, texts: int, tokens: int) -> list[str]:
    """Return so many texts of at most so many tokens; those that the model does not end are left out."""
    finished: list[str] = []
    first = torch.tensor([[tokenizer.bos_token_id]])
    while len(finished) < texts:
        rows = model.generate(
            first.expand(AT_ONCE, -1), attention_mask=torch.ones(AT_ONCE, 1), do_sample=True, top_k=0,
            max_new_tokens=tokens, pad_token_id=tokenizer.eos_token_id,
        )  # fmt: skip
        ends = (rows[:, 1:] == tokenizer.eos_token_id) | (rows[:, 1:] == tokenizer.bos_token_id)
        stops = [int(row.int().argmax()) + 1 for row in ends]
        whole = (tokenizer.decode(row[1:stop]).strip() for row, stop in zip(rows, stops, strict=True) if stop > 1)
        finished += [text for text in whole if text]
        print(f"{min(len(finished), texts)} of {texts} texts", flush=True)
    return finished[:texts]


def main() -> None:
    """Read the command line."""
    parser = script_parser(__doc__)
    parser.add_argument("model")
    parser.add_argument("out", type=Path)
    parser.add_argument("--texts", type=int, default=600)
    parser.add_argument("--tokens", type=int, default=250)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    model, tokenizer = (pretrained(auto, options.model, INSTEAD) for auto in (AutoModelForCausalLM, AutoTokenizer))
    write_text(options.out, "\n\n".join(sample(model.eval(), tokenizer, options.texts, options.tokens)) + "\n")


if __name__ == "__main__":
    run_script(main)
