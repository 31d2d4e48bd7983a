"""Reading a corpus: Python's own documentation, a text file, a folder of them, or a `datasets` name."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics
from typing import NoReturn

import datasets

from progloc.errors import ProglocError
from progloc.files import decode_text, normalise
from progloc.hub import check_hub

TEXT_SUFFIXES = (".txt", ".text", ".md", ".markdown", ".rst", ".tex")
"""What a folder is searched for, in upper or lower case."""

KINDS = "a corpus is 'python-docs', a text file, a folder of text files, or a datasets name (NAME[:CONFIG[:SPLIT]])"
BETWEEN_TEXTS = "\n\n"


@dataclass(frozen=True)
class Corpus:
    """A text and the name it was asked for by."""

    name: str
    text: str

    @property
    def sha256(self) -> str:
        """The SHA-256 of the text in UTF-8, 64 hexadecimal digits."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def load_corpus(spec: str | Path) -> Corpus:
    r"""Return the corpus that ``spec`` stands for; line ends become "\n" and a byte order mark is dropped.

    ``spec`` is, in this order:

    - ``python-docs``: the language reference in `pydoc_data.topics`, in the order of its keys;
    - a text file in UTF-8, whatever its suffix;
    - a folder: every text file in it and below (`TEXT_SUFFIXES`: .txt .text .md .markdown .rst .tex), in the order of
      their paths; hidden files and folders are left out;
    - ``NAME``, ``NAME:CONFIG`` or ``NAME:CONFIG:SPLIT`` of a dataset for the `datasets` library (split: train): its
      column ``text``, or its only column of strings. Only this needs the network.

    Several texts are joined by a blank line.

    Raises:
        ProglocError: nothing of that name, something that cannot be read, is not UTF-8, or holds no text.
    """
    text = BETWEEN_TEXTS.join(normalise(part) for part in _texts(spec))
    if not text.strip():
        raise ProglocError(f"the corpus '{spec}' holds no text, or only white space; {KINDS}")
    return Corpus(str(spec), text)


def _texts(spec: str | Path) -> list[str]:
    if not str(spec).strip():
        raise ProglocError(f"no corpus given ('{spec}'); {KINDS}")
    if spec == "python-docs":
        return [topics[key] for key in sorted(topics)]
    try:
        path = Path(spec).expanduser()
        if path.is_dir():
            return [decode_text(file.read_bytes(), str(file)) for file in _text_files(path)]
        if path.exists():
            return [decode_text(path.read_bytes(), str(path))]
    except (OSError, RuntimeError) as error:  # RuntimeError: '~name' of a user who is not there
        raise ProglocError(f"cannot read the corpus '{spec}' ({error}); {KINDS}") from error
    if _looks_like_path(spec):
        raise ProglocError(f"no corpus at {path}; {KINDS}")
    return _dataset_texts(str(spec))


def _raise(error: OSError) -> NoReturn:
    raise error


def _text_files(folder: Path) -> list[Path]:
    files = []
    for parent, subfolders, names in os.walk(folder, onerror=_raise):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        files += [
            Path(parent) / name for name in names if name.lower().endswith(TEXT_SUFFIXES) and not name.startswith(".")
        ]
    if not files:
        raise ProglocError(
            f"the folder {folder} holds no text files; expected files ending in {' '.join(TEXT_SUFFIXES)}"
        )
    return sorted(files)


def _looks_like_path(spec: str | Path) -> bool:
    """Whether ``spec`` can only be a path: 'owner/name' with one slash is how datasets are named, too."""
    text = str(spec)
    return (
        isinstance(spec, Path)
        or text.startswith((".", "~", "/"))
        or text.endswith("/")
        or text.lower().endswith(TEXT_SUFFIXES)
        or text.partition(":")[0].count("/") > 1
        or "\\" in text
    )


def _dataset_texts(spec: str) -> list[str]:
    name, config, split = [*spec.split(":", 2), "", ""][:3]
    check_hub(name, "dataset", KINDS.removeprefix("a corpus is "))
    try:
        table = datasets.load_dataset(name, config or None, split=split or "train")
    except Exception as error:  # the library raises a dozen kinds: no such name, configuration or split, no network
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ProglocError(f"no file, folder or dataset '{spec}' ({reason}); {KINDS}") from error
    features = table.features
    strings = [name for name, kind in features.items() if getattr(kind, "dtype", None) in ("string", "large_string")]
    if "text" not in strings and len(strings) != 1:
        raise ProglocError(
            f"the dataset '{spec}' has the columns {', '.join(features)}; "
            "expected one named 'text', or one of strings only"
        )
    return [text for text in table["text" if "text" in strings else strings[0]] if text]
