"""One of an audit's two models alone, and the same as raters see it: a picture, unjudged and of no named model."""

from __future__ import annotations

__all__ = ["BASE", "LOCALISED", "SYSTEMS", "alone", "blinded"]

import dataclasses

from progloc.auditing.report import WITHHELD, Audit
from progloc.errors import ProglocError

LOCALISED, BASE = "localised", "base"
SYSTEMS = (LOCALISED, BASE)
NAMELESS = "the model"


def alone(audit: Audit, system: str) -> Audit:
    """Return the audit of one of its models, as if it had been the only one.

    Args:
        audit: what was found.
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
    """Return `alone` without names, schedule, λ, dial, machine and time, and without verdict and tests.

    So two of them differ in their pictures only, and what raters think of a picture is theirs.

    Args and errors: as `alone`.
    """
    one = alone(audit, system)
    layers = tuple(dataclasses.replace(layer, strength=0.0) for layer in one.examined.layers)
    return dataclasses.replace(
        one,
        examined=dataclasses.replace(
            one.examined, model=NAMELESS, layers=layers, verdict=WITHHELD, reasons=(), tested=(), faithfulness=None
        ),
        schedule="not shown",
        dial=0.0,
        seconds=0.0,
        environment={},
    )
