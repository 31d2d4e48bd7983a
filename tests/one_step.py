"""One optimiser step of LocalistTrainer on eight sequences of unequal length, in however many processes run this.

python tests/one_step.py ACCUMULATION OUT.json
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel, TrainingArguments

from progloc import LocalistTrainer, LocalityConfig, localize
from progloc.files import write_json
from progloc.schedules.budget import Budget
from progloc.training.learned import LearnedSchedule
from progloc.training.stages import Stages

LENGTHS = (16, 9, 12, 5, 16, 7, 10, 3)


def main() -> None:
    """Train one step; process 0 writes the parameters' fingerprint and the log line."""
    accumulation, out = int(sys.argv[1]), Path(sys.argv[2])
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    torch.manual_seed(0)
    off = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "bos_token_id": 0, "eos_token_id": 0}
    shape = GPT2Config(n_layer=2, n_head=2, n_embd=16, vocab_size=101, initializer_range=0.3, **off)
    model = localize(GPT2LMHeadModel(shape).double(), LocalityConfig(schedule="learnable:0.9", alpha=1.0))
    data = [{"input_ids": torch.randint(0, 101, (n,)).tolist()} for n in LENGTHS]
    trainer = LocalistTrainer(
        model=model,
        args=TrainingArguments(
            str(out.parent), max_steps=1, per_device_train_batch_size=len(data) // processes // accumulation,
            gradient_accumulation_steps=accumulation, learning_rate=1.0, optim="sgd", lr_scheduler_type="constant",
            max_grad_norm=1e9, logging_steps=1, report_to="none", save_strategy="no", use_cpu=True, disable_tqdm=True,
        ),
        train_dataset=data,
        stages=Stages(exploration=0),
    )  # fmt: skip
    # in the first step there is nothing to learn yet, so let penalties have begun elsewhere
    trainer.learned = LearnedSchedule(Budget(0.9), start=[0.0, 1.0], learning_rate=1.0)
    trainer.train()
    if trainer.is_world_process_zero():
        parameters = [float(p.detach().abs().sum()) for p in model.parameters()]
        write_json(out, {"parameters": parameters, "log": trainer.state.log_history[0]})


if __name__ == "__main__":
    main()
