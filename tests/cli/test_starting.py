"""How the command line and the package begin: at once, and with nothing that is not needed."""

from __future__ import annotations

import importlib
import subprocess
import sys
from importlib.metadata import version

import pytest

import progloc
from progloc.lazy import MOVED

HEAVY = ("torch", "transformers", "datasets", "pandas", "scipy.stats", "matplotlib.figure")
PROMISED = {
    "LocalityConfig", "localize", "LocalistTrainer", "measure", "dial", "audit", "log_masses", "load", "delocalize",
    "isolate", "account", "SHARED", "READER",
    "Schedule", "Partitioner", "register_partitioner", "register_schedule", "register_measure",
}  # fmt: skip


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=120)


def loaded_by(code: str) -> set[str]:
    """Return which of the libraries that take seconds are loaded by some code, in a process of its own."""
    done = run("-c", f"{code}\nimport sys; print(*(set({HEAVY}) & set(sys.modules)), file=sys.stderr)")
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())


COMMANDS = ["--help", "--version", "schedule quintic", *(f"{name} --help" for name in (
    "reproduce", "report", "train", "evaluate", "generate", "dial", "audit", "serve", "study", "schedule", "blocks",
    "doctor",
))]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_what_needs_no_model_loads_no_library_for_models(command: str) -> None:
    code = f"""
import sys
from progloc.cli import main
sys.argv = ["progloc", *{command.split()}]
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
"""
    assert loaded_by(code) == set()


@pytest.mark.slow
@pytest.mark.parametrize("module", ["progloc.paper.suite_report", "progloc.app.ratings", "progloc.app.survey"])
def test_reports_on_what_is_finished_load_no_library_for_models(module: str) -> None:
    assert loaded_by(f"import {module}") <= {"matplotlib.figure"}


def test_the_package_loads_a_name_when_it_is_asked_for() -> None:
    assert loaded_by("import progloc; dir(progloc)") == set()
    assert loaded_by("from progloc import Schedule, Partitioner, LocalityConfig, Audit") == set()


def test_what_is_promised_is_there() -> None:
    assert set(progloc.__all__) >= PROMISED
    assert set(dir(progloc)) >= PROMISED
    for name in progloc.__all__:
        public = getattr(progloc, name)
        assert isinstance(public, int) or public.__name__ in (name, "add", "register")  # a registry's own method
    with pytest.raises(AttributeError, match="no attribute 'localise'"):
        _ = progloc.localise


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("auditing.text", "accounts.text"), ("auditing", "accounts"), ("auditing.server.app", "app.application"),
        ("suite.statistics", "report.statistics"), ("suite.claims", "paper.claims"),
        ("auditing.report", "accounts.schema"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("first", ["old", "new"])
def test_a_module_that_moved_is_found_by_its_old_name(old: str, new: str, first: str) -> None:
    names = [f"progloc.{old}", f"progloc.{new}"]
    code = f"""
import importlib, warnings
warnings.simplefilter("ignore")
for name in {names if first == "old" else names[::-1]}:
    importlib.import_module(name)
old, new = map(importlib.import_module, {names})
assert old is new and new.__spec__.name == new.__name__ == {names[1]!r}, (old, new, new.__spec__)
"""
    assert run("-c", code).returncode == 0
    assert f"{names[0]} is {names[1]} now" in run("-W", "always", "-c", f"import {names[0]}").stderr


@pytest.mark.parametrize("old", MOVED)
def test_every_module_that_moved_can_be_imported(old: str) -> None:
    with pytest.warns(DeprecationWarning, match=r"now$"):
        importlib.import_module(f"progloc.{old}")


EXTRAS = ("fastapi", "starlette", "uvicorn", "nltk", "peft", "liger_kernel", "spacy", "triton")
WITHOUT_EXTRAS = f"import sys\nsys.modules.update(dict.fromkeys({EXTRAS}))\n"


@pytest.mark.slow
def test_only_the_server_and_kernels_of_cuda_need_an_extra() -> None:
    code = f"""{WITHOUT_EXTRAS}
import importlib, pkgutil, progloc
for module in pkgutil.walk_packages(progloc.__path__, "progloc."):
    if not module.name.endswith("__main__"):
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            print(module.name, error.name)
"""
    done = run("-c", code)
    assert done.returncode == 0, done.stderr
    needing = dict(line.split() for line in done.stdout.splitlines())
    assert all(name.startswith(("progloc.app.", "progloc.attention.triton_")) for name in needing), needing
    assert {library.split(".")[0] for library in needing.values()} <= set(EXTRAS)


@pytest.mark.slow
def test_serving_without_its_extra_says_what_to_install() -> None:
    done = run("-c", f"{WITHOUT_EXTRAS}from progloc.cli import main\nsys.argv = ['progloc', 'serve', 'model']\nmain()")
    assert done.returncode == 2
    assert done.stderr.splitlines() == ["progloc: progloc serve needs uvicorn; run pip install 'progloc[app]'"]


@pytest.mark.slow
def test_a_packages_names_are_its_own_whatever_was_loaded_before() -> None:
    code = """
import progloc.accounts.auditing, progloc.measures.measuring, progloc.attention.plugin
from progloc.accounts import audit
from progloc.measures import measure
from progloc.blocks import BlocksSoFar
from progloc.schedules import Budget
assert all(map(callable, (audit, measure, BlocksSoFar, Budget)))
"""
    assert loaded_by(code)


@pytest.mark.slow
def test_libraries_are_told_to_be_quiet_before_they_are_loaded() -> None:
    code = """
import progloc.cli
from transformers.utils import logging
from datasets.utils import are_progress_bars_disabled
assert logging.get_verbosity() == logging.ERROR and not logging.is_progress_bar_enabled()
assert are_progress_bars_disabled()
"""
    assert loaded_by(code)


def test_the_version_is_told() -> None:
    assert run("-m", "progloc", "--version").stdout == f"progloc {version('progloc')}\n"


def test_without_a_command_there_is_help_and_status_2() -> None:
    done = run("-m", "progloc")
    assert done.returncode == 2
    assert "Commands" in done.stdout + done.stderr
    assert "progloc: " not in done.stderr
