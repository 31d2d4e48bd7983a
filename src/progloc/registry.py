"""Names to things, with extension by decorator or by installed entry point."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from progloc.errors import ProglocError, suggest

T = TypeVar("T")


class Registry(Generic[T]):
    """A name-to-object table. `group` is the entry-point group that other packages add to."""

    def __init__(self, kind: str, group: str) -> None:
        self.kind = kind
        self.group = group
        self._known: dict[str, T] = {}
        self._searched = False

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that files its argument under ``name``; a second use of a name is an error."""

        def add(item: T) -> T:
            if name in self._known:
                raise ProglocError(f"the {self.kind} '{name}' is already registered; choose another name")
            self._known[name] = item
            return item

        return add

    def _all(self) -> dict[str, T]:
        """Return everything registered, here and, searched for once, by installed packages."""
        for point in () if self._searched else entry_points(group=self.group):
            try:
                item = point.load()
            except Exception as error:  # another package's code: anything may go wrong in it
                raise ProglocError(
                    f"the installed {self.kind} '{point.name}' ({point.value}) cannot be loaded ({error}); "
                    "mend or uninstall its package"
                ) from error
            self._known.setdefault(point.name, item)
        self._searched = True
        return self._known

    def __getitem__(self, name: str) -> T:
        known = self._all()
        if name not in known:
            raise ProglocError(f"unknown {self.kind} '{name}'; {suggest(name, known)}")
        return known[name]

    def __contains__(self, name: str) -> bool:
        return name in self._all()

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._all()))
