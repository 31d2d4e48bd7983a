"""Prompts, and every kind of generation, for what holds while a model writes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from progloc import ProglocError

PROMPT = 11
NEW = 14
KINDS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "sampling": {"do_sample": True},
    "beams": {"num_beams": 3},
    "static cache": {"cache_implementation": "static"},
}


def prompts(batch: int = 2) -> tuple[Tensor, Tensor]:
    """Token ids and mask (B, T), the second row padded on the left."""
    ids = torch.randint(1, 101, (batch, PROMPT), generator=torch.Generator().manual_seed(2))
    mask = torch.ones_like(ids)
    if batch > 1:
        mask[1, :4] = 0
    return ids * mask, mask


def generated(model: Any, batch: int = 2, **settings: Any) -> Any:
    ids, mask = prompts(batch)
    torch.manual_seed(0)
    return model.generate(
        ids, attention_mask=mask, max_new_tokens=NEW, min_new_tokens=NEW, pad_token_id=0,
        **{"do_sample": False, **settings},
    )  # fmt: skip


def in_a_thread(call: Callable[[], Any]) -> Any:
    """What a call gives in a thread of its own, or what it raises there."""
    found: list[Any] = []

    def work() -> None:
        try:
            found.append(call())
        except ProglocError as error:
            found.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return found[0]
