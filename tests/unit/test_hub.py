"""Names that are nowhere are refused at once; what is here or cached is not asked about."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import pytest

from progloc import ProglocError
from progloc.hub import check_hub


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception | None], list[str]]:
    """Make the hub answer, or fail as told; returns the names it was asked for."""

    def answer(failure: Exception | None) -> list[str]:
        asked: list[str] = []

        def repo_info(self: object, name: str, **kwargs: object) -> None:
            asked.append(name)
            if failure is not None:
                raise failure

        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.HfApi.repo_info", repo_info)
        return asked

    return answer


def test_what_the_hub_does_not_give_is_one_line(hub: Callable[[Exception | None], list[str]]) -> None:
    hub(OSError("404 Client Error\nRequest ID: 7"))
    with pytest.raises(ProglocError, match="no file or folder 'me/mine' here") as caught:
        check_hub("me/mine", "model", "a folder")
    assert str(caught.value).endswith("(404 Client Error); expected a folder")


def test_what_is_there_passes(hub: Callable[[Exception | None], list[str]], tmp_path: Path) -> None:
    asked = hub(None)
    check_hub("me/mine", "dataset", "a corpus")
    check_hub(str(tmp_path), "model", "a folder")
    assert asked == ["me/mine"]


def test_offline_nothing_is_asked(
    hub: Callable[[Exception | None], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = hub(OSError("unreachable"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    check_hub("me/mine", "model", "a folder")
    assert asked == []


SOURCES = [path for folder in ("src", "benchmarks") for path in (Path(__file__).parents[2] / folder).rglob("*.py")]


@pytest.mark.parametrize(
    "way", [r"Auto\w*\.from_pretrained\(", r"torch\.load\(", r"import pickle|from pickle", "trust_remote_code=True,"]
)
def test_what_is_fetched_is_opened_in_one_place(way: str) -> None:
    assert len(SOURCES) > 100
    assert [path.name for path in SOURCES if re.search(way, path.read_text(encoding="utf-8"))] in ([], ["hub.py"])
