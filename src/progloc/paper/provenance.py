"""What made a suite's numbers: command, data, versions, settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from progloc.paper.suite import Suite


def _distinct(values: Iterable[object]) -> str:
    return ", ".join(dict.fromkeys(str(value) for value in values if value is not None)) or "—"


def made_by(suite: Suite) -> list[tuple[str, str]]:
    """Return what made the suite, as label and value: command, model, corpus, hashes, versions, dates."""
    environments = [run.environment for run in suite.runs]
    data = [run.data for run in suite.runs]
    dates = sorted(str(environment["date"]) for environment in environments if environment.get("date"))
    controls = [
        f"{c['control']} for {c['blocks']} ({c['control_chance_fidelity_no_sink']:.4f} and "
        f"{c['chance_fidelity_no_sink']:.4f} of F° by chance, on the training text)"
        for c in suite.plan.get("controls", [])
    ]
    sequences = (f"{d.get('train_sequences')} train, {d.get('validation_sequences')} validation" for d in data)
    commits = (
        f"{git.get('commit')}{' (with uncommitted changes)' if git.get('dirty') else ''}"
        for environment in environments
        if (git := environment.get("git"))
    )
    return [
        *((key, _distinct([suite.plan.get(key)])) for key in ("command", "suite", "model", "corpus")),
        ("blocks", _distinct(run.blocks for run in suite.runs)),
        *([("controls of size", "; ".join(controls))] if controls else []),
        ("corpus sha256", _distinct(d.get("corpus_sha256") for d in data)),
        ("split sha256", _distinct(d.get("split_sha256") for d in data)),
        ("sequences", _distinct(sequences)),
        *((key, _distinct(e.get(key) for e in environments)) for key in ("progloc", "torch", "transformers", "python")),
        ("git commit", _distinct(commits)),
        *((key, _distinct(e.get(key) for e in environments)) for key in ("platform", "device", "cpus")),
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
