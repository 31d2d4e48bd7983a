"""Names that are loaded when they are first asked for (PEP 562), and modules that have moved."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
import warnings
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

MOVED = {
    "app.answers": "app.survey",
    "app.app": "app.application",
    "app.audits": "app.routes",
    "app.bodies": "app.requests",
    "app.documents": "app.blinding",
    "app.export": "app.survey",
    "app.guard": "app.application",
    "app.rubric": "app.survey",
    "app.serving": "app.server",
    "app.store": "app.jobs",
    "app.studying": "app.routes",
    "app.views": "app.routes",
    "app.worker": "app.jobs",
    "auditing": "accounts",
    "auditing.audit": "accounts.auditing",
    "auditing.blinding": "app.blinding",
    "auditing.display": "accounts.terminal",
    "auditing.folders": "accounts.auditing",
    "auditing.page": "accounts.audit_page",
    "auditing.passages": "paper.study",
    "auditing.ratings": "app.ratings",
    "auditing.report": "accounts.schema",
    "auditing.rubric": "app.survey",
    "auditing.scatter": "accounts.audit_page",
    "auditing.server": "app",
    "auditing.study": "paper.study",
    "auditing.study_tables": "paper.faithfulness",
    "blocks.arguments": "blocks.phrases",
    "blocks.base": "blocks.partitioning",
    "blocks.fixed": "blocks.partitioning",
    "blocks.mixture": "blocks.partitioning",
    "blocks.segmentation": "blocks.embeddings",
    "blocks.similarity": "blocks.embeddings",
    "blocks.text_from_ids": "blocks.encoding",
    "cli.auditing": "cli.audit",
    "cli.measuring": "cli.models",
    "cli.serving": "cli.serve",
    "cli.training": "cli.models",
    "dial_curve.figure": "dial_curve.dial_report",
    "dial_curve.report": "dial_curve.dial_report",
    "dial_curve.tables": "dial_curve.dial_report",
    "display": "cli.display",
    "paper.live": "paper.runner",
    "paper.passages": "paper.study",
    "paper.study_tables": "paper.faithfulness",
    "printing": "report.printing",
    "schedules.base": "schedules.shapes",
    "schedules.depth": "schedules.shapes",
    "schedules.heads": "schedules.shapes",
    "schedules.learnable": "schedules.shapes",
    "suite": "paper",
    "suite.compared": "paper.comparisons",
    "suite.elsewhere": "paper.comparisons",
    "suite.frontier_figure": "paper.figures",
    "suite.learned_figure": "paper.figures",
    "suite.paper": "paper.published",
    "suite.partitioner_tables": "paper.tables_5_to_7",
    "suite.rendering": "report.table",
    "suite.report": "paper.suite_report",
    "suite.results": "paper.suite",
    "suite.statistics": "report.statistics",
    "suite.variant_tables": "paper.tables_5_to_7",
    "templating": "report.templating",
    "theory": "paper",
    "theory.guarantees": "measures.guarantees",
    "training.budget": "training.stages",
    "training.folder": "run_folder",
    "training.remeasure": "training.run",
}
"""Where modules and packages went, within progloc; their old names are to go with 0.2."""


def exports(package: str, modules: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return a package's `__getattr__` and `__dir__`.

    Args:
        package: its name, or that of a module that gave away some of its names.
        modules: each public name, and the module within the package that defines it; ".name" for one beside it.
    """

    def load(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        value = getattr(importlib.import_module(f".{modules[name]}", package), name)
        setattr(sys.modules[package], name, value)
        return value

    return load, lambda: sorted({*vars(sys.modules[package]), *modules})


def _new_name(name: str) -> str | None:
    """Return what a module of progloc is called now, however often it moved; None where it has not moved."""
    parts = name.split(".")[1:]
    for end in range(len(parts), 0, -1):
        moved = MOVED.get(".".join(parts[:end]))
        if moved is not None:
            new = ".".join(["progloc", moved, *parts[end:]])
            return _new_name(new) or new
    return None


class _Moves(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds a module that moved under its old name, as the same module."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> importlib.machinery.ModuleSpec | None:
        """Return how to load a module that moved."""
        new = _new_name(name) if name.startswith("progloc.") else None
        return None if new is None else importlib.util.spec_from_loader(name, self)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """Return the module where it is now, and warn of its old name."""
        new = _new_name(spec.name)
        assert new is not None
        warnings.warn(f"{spec.name} is {new} now", DeprecationWarning, stacklevel=2)
        module = importlib.import_module(new)
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Leave the module as it is, its own specification too, which importing it again put aside."""
        old = module.__spec__
        if old is not None and old.loader is self:
            module.__spec__ = old.loader_state


def follow_moves() -> None:
    """Let modules that moved be imported by their old names."""
    if not any(isinstance(finder, _Moves) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Moves())
