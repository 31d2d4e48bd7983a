"""What is stored of a finished audit: pages for who asked, or pages for raters, unjudged and of no named model."""

from __future__ import annotations

import dataclasses

import numpy as np

from progloc.accounts.audit_page import page
from progloc.accounts.pictures import PICTURES, Picture
from progloc.accounts.schema import WITHHELD, Audit, Cost, Examination
from progloc.errors import ProglocError

LOCALISED, BASE = "localised", "base"
SYSTEMS = (LOCALISED, BASE)
PAGE, JSON = "page", "json"
SYSTEM_PAGES = {system: f"page of {system}" for system in SYSTEMS}
BLINDED = {system: f"blinded {system}" for system in SYSTEMS}
"""The names of documents, as they are stored."""
SHOWN = ("prompt", "answer", "tokens", "block_ids", "answer_start", "blocks", "causal")
"""Of an audit, what raters may see beside a picture: the text and its blocks, which both models have."""


def documents(audit: Audit, *, study: bool) -> dict[str, str]:
    """Return the documents of an audit, by name.

    Args:
        audit: a finished one.
        study: pages for raters, without names and verdicts; else pages for who asked, of each model alone as well.
    """
    systems = SYSTEMS if audit.base is not None else ()
    if study:
        pages = {BLINDED[system]: page(blinded(audit, system)) for system in systems}
    else:
        pages = {PAGE: page(audit), **{SYSTEM_PAGES[system]: page(alone(audit, system)) for system in systems}}
    return {JSON: audit.to_json(), **pages}


def alone(audit: Audit, system: str) -> Audit:
    """Return the audit of one of its models, as if it had been the only one.

    Args:
        audit: of one model or two.
        system: `localised`, or `base`, the model before localising.

    Raises:
        ProglocError: the audit has no such model.
    """
    examined = {LOCALISED: audit.examined, BASE: audit.base}.get(system)
    if examined is None:
        held = " and ".join(SYSTEMS if audit.base else (LOCALISED,))
        raise ProglocError(f"'{system}' of an audit that holds {held}; audit with a base to have both")
    return dataclasses.replace(audit, examined=examined, base=None)


def blinded(audit: Audit, system: str) -> Audit:
    """Return an audit of what raters may see of one of its models, and of nothing else.

    That is the text with its blocks, which both models have, and how attention without the sink is shared out over the
    prompt's blocks: over the whole answer, and at each of its tokens, the mean over layers. Only these are copied. All
    else is blank, whatever else an audit may hold: how local a model is, how sure it is of the answer, how much it
    attends to the answer itself and in which layers, names, settings, verdict and tests would tell the two apart.

    Args and errors: as `alone`.
    """
    seen = alone(audit, system).examined
    answer = _shares_alone(seen.answer.mean(1))[:, np.newaxis]
    examined = Examination(
        model="", verdict=WITHHELD, reasons=(), picture=_shares_alone(seen.picture), sink_mass=0.0, layers=(),
        answer=answer, answer_sink_mass=np.zeros((len(seen.log_probs), 1)), answer_heads=answer[:, :, np.newaxis],
        log_probs=(0.0,) * len(seen.log_probs),
    )  # fmt: skip
    return Audit(
        **{name: getattr(audit, name) for name in SHOWN},
        examined=examined, base=None, given=False, schedule="", dial=0.0, cost=Cost(0, 0), seconds=0.0, environment={},
    )  # fmt: skip


def _shares_alone(picture: Picture) -> Picture:
    """Return the shares without the sink in place of all three pictures, with nothing on the answer."""
    shares = picture.mass_no_sink
    with_answer = np.concatenate([shares, np.zeros((*shares.shape[:-1], 1))], axis=-1)
    return Picture(np.stack([with_answer] * len(PICTURES)))
