"""What may be asked of the server, and how much of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict

from progloc.app.blinding import LOCALISED
from progloc.files import normalise


class Refused(Exception):
    """A request that is answered with a status and one plain sentence."""

    def __init__(self, status_code: int, detail: str):
        super().__init__(detail)
        self.status_code, self.detail = status_code, detail


@dataclass(frozen=True)
class Limits:
    """The most that is taken in; what is above is refused with its number."""

    prompt_characters: int = 40_000
    continuation_characters: int = 8_000
    new_tokens: int = 256
    body_bytes: int = 512 * 1024
    """Of a request; JSON may write a character in up to six bytes."""
    waiting: int = 8
    """Audits in the queue, without the one that runs."""
    seconds: float = 600.0
    """An audit's time, looked at whenever it reports progress."""
    name_characters: int = 60
    comment_characters: int = 2_000


def _normalise(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError("half a character, which is no text") from error
    return normalise(text)


Text = Annotated[str, AfterValidator(_normalise)]
r"""Line ends become "\n". JSON may write half a character, as in "\ud800", which nothing can store."""


class Body(BaseModel):
    """A JSON object of exactly these names and types."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class AuditBody(Body):
    """An audit, as a person asks for it."""

    prompt: Text
    continuation: Text | None = None
    """None: the model writes it."""
    max_new_tokens: int = 64
    dial: float = 0.0
    """δ in [0, 1]."""
    compare: bool = True
    """Look at the base as well, where the server has one."""
    as_is: bool = False
    """Join prompt and answer exactly; else with a space between words, see `progloc.accounts.text.insert_space`."""

    def check(self, limits: Limits) -> None:
        """Raise Refused: 413 for a text that is too long, 422 for a missing one or a number out of range."""
        for name, text, most in (
            ("prompt", self.prompt, limits.prompt_characters),
            ("continuation", self.continuation or "", limits.continuation_characters),
        ):
            if len(text) > most:
                raise Refused(413, f"The {name} has {len(text):,} characters; at most {most:,} are taken.")
        if not self.prompt.strip():
            raise Refused(422, "The prompt is empty; expected some text.")
        if self.continuation is not None and not self.continuation.strip():
            raise Refused(422, "The continuation is empty; leave it out to have the model write one.")
        if not 1 <= self.max_new_tokens <= limits.new_tokens:
            raise Refused(422, f"{self.max_new_tokens:,} new tokens; expected 1 to {limits.new_tokens:,}.")
        if not 0 <= self.dial <= 1:
            raise Refused(422, f"The dial is at {self.dial:g}; expected a number from 0 to 1.")


class AuditRequest(AuditBody):
    """An audit, as the worker is asked for it."""

    writer: str = LOCALISED
    """Which of the two systems writes the answer, where none is given; a survey decides it, nobody can post it."""


class RaterBody(Body):
    """Who rates."""

    name: Text


class ClickBody(Body):
    """One click on a scale."""

    item: int
    label: Literal["A", "B"]
    scale: str
    score: int


class CommentBody(Body):
    """What a rater wrote of an item."""

    item: int
    text: Text
