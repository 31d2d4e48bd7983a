"""What made a suite's numbers: command, data, versions, settings."""

from __future__ import annotations

__all__ = ["made_by", "settings"]

from collections.abc import Iterable, Mapping
from typing import Any

from progloc.paper.results import Suite


def _every(values: Iterable[object]) -> str:
    """Write each different value once."""
    return ", ".join(dict.fromkeys(str(value) for value in values if value is not None)) or "—"


def _sequences(data: Mapping[str, Any]) -> str:
    return f"{data.get('train_sequences')} train, {data.get('validation_sequences')} validation"


def _commit(git: Mapping[str, Any]) -> str:
    return f"{git.get('commit')}{' (with uncommitted changes)' if git.get('dirty') else ''}"


def _controls(controls: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    said = [
        f"{each['control']} for {each['blocks']} ({each['control_chance_fidelity_no_sink']:.4f} and "
        f"{each['chance_fidelity_no_sink']:.4f} of F° by chance, on the training text)"
        for each in controls
    ]
    return [("controls of size", "; ".join(said))] if said else []


def made_by(suite: Suite) -> list[tuple[str, str]]:
    """Return what made the suite, as label and value: command, model, corpus, hashes, versions, dates."""
    environments = [run.environment for run in suite.runs]
    data = [run.data for run in suite.runs]
    dates = sorted(str(environment["date"]) for environment in environments if environment.get("date"))
    return [
        *((key, _every([suite.plan.get(key)])) for key in ("command", "suite", "model", "corpus")),
        ("blocks", _every(run.blocks for run in suite.runs)),
        *_controls(suite.plan.get("controls", [])),
        ("corpus sha256", _every(held.get("corpus_sha256") for held in data)),
        ("split sha256", _every(held.get("split_sha256") for held in data)),
        ("sequences", _every(map(_sequences, data))),
        *((key, _every(e.get(key) for e in environments)) for key in ("progloc", "torch", "transformers", "python")),
        ("git commit", _every(_commit(e["git"]) for e in environments if e.get("git"))),
        *((key, _every(e.get(key) for e in environments)) for key in ("platform", "device", "cpus")),
        ("finished", " to ".join(dict.fromkeys((dates[0], dates[-1]))) if dates else "—"),
    ]


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def settings(suite: Suite) -> list[tuple[str, str]]:
    """Return every setting of the finished runs, as key and value; all values, where runs differ."""
    configs = [_flat(run.config) for run in suite.runs]
    keys = dict.fromkeys(key for config in configs for key in config)
    return [(key, ", ".join(dict.fromkeys(str(config.get(key)) for config in configs))) for key in keys]
