"""What the bodies of requests are made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict

from progloc.files import normalise


class Body(BaseModel):
    """A JSON object of exactly these names and types."""

    model_config = ConfigDict(extra="forbid", strict=True)


def _whole(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError("half a character, which is no text") from error
    return normalise(text)


Text = Annotated[str, AfterValidator(_whole)]
r"""Line ends become "\n". JSON may write half a character, as in "\ud800", which nothing can store."""
