"""Settings of a model that hold while a context lasts, in the thread that entered it: its dial, its isolation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock
from typing import Any, Generic, TypeVar

from progloc.errors import ProglocError

S = TypeVar("S")


class Scoped(Generic[S]):
    """One kind of setting, for all models.

    Args:
        name: of the context manager that sets it.
        noun: what a model then has; also the key of `Locality.settings_on`.
        participle: what it then is.
    """

    def __init__(self, name: str, noun: str, participle: str) -> None:
        self.name, self.noun, self.participle = name, noun, participle
        self._settings: ContextVar[Mapping[int, S]] = ContextVar(noun, default={})  # noqa: B039 (never changed)
        self._counting = Lock()

    def of(self, model: Any) -> S | None:
        """Return a model's setting in this thread; None where no thread has one that changes anything.

        Raises:
            ProglocError: another thread has, and nobody said what holds in this one.
        """
        # a compiled model asks no more than this, and is compiled anew when it changes
        if not model.locality.settings_on[self.noun]:
            return None
        setting = self._settings.get().get(id(model.locality))
        if setting is None:
            raise ProglocError(
                f"this model is {self.participle} in another thread and has no {self.noun} in this one; enter "
                f"`with {self.name}(model, …)` in the thread that calls it, at 0 for the model as it is, or "
                "start that with contextvars.copy_context().run"
            )
        return setting

    def is_held(self, model: Any) -> bool:
        """Return whether a setting of a model holds in this thread, be it one that changes nothing."""
        return id(model.locality) in self._settings.get()

    @contextmanager
    def hold(self, locality: Any, setting: S, changes: bool) -> Iterator[S]:
        """Let a setting hold while the context lasts; ``changes`` says whether the model does anything differently."""
        token = self._settings.set({**self._settings.get(), id(locality): setting})
        with self._counting:
            locality.settings_on[self.noun] += changes
        try:
            yield setting
        finally:
            with self._counting:
                locality.settings_on[self.noun] -= changes
            self._settings.reset(token)
