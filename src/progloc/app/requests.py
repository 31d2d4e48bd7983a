"""What may be asked of the server, and how much of it."""

from __future__ import annotations

from dataclasses import dataclass

from progloc.app.blinding import LOCALISED


class Refused(Exception):
    """A request that is answered with a status and one plain sentence."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


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


@dataclass(frozen=True)
class AuditRequest:
    """One audit, as a person asks for it."""

    prompt: str
    continuation: str | None = None
    """None: the model writes it."""
    max_new_tokens: int = 64
    dial: float = 0.0
    """δ in [0, 1]."""
    compare: bool = True
    """Look at the base as well, where the server has one."""
    as_is: bool = False
    """Join prompt and answer exactly; else with a space between words, see `progloc.accounts.text.insert_space`."""
    writer: str = LOCALISED
    """Which of the two systems writes the answer, where none is given."""

    def checked(self, limits: Limits) -> AuditRequest:
        """Return the request.

        Raises:
            Refused: 413 for a text that is too long, 422 for one that is missing or a number out of range.
        """
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
        return self
