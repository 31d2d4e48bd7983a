from importlib.metadata import EntryPoint

import pytest

from progloc import registry
from progloc.errors import ProglocError
from progloc.registry import Registry


@pytest.fixture
def plugins(monkeypatch):
    """Make a registry that finds these entry points installed: `plugins(name="module:object")`."""

    def build(**points: str) -> Registry[object]:
        found = [EntryPoint(name, value, "progloc.things") for name, value in points.items()]
        monkeypatch.setattr(registry, "entry_points", lambda group: [p for p in found if p.group == group])
        return Registry("thing", "progloc.things")

    return build


def test_what_is_registered_is_found(plugins):
    things = plugins()

    @things.register("one")
    def one() -> int:
        return 1

    assert things["one"] is one
    assert "one" in things
    assert "two" not in things
    assert list(things) == ["one"]


def test_a_name_is_taken_once(plugins):
    things = plugins()
    things.register("one")(1)
    with pytest.raises(ProglocError, match="the thing 'one' is already registered"):
        things.register("one")(2)
    assert things["one"] == 1


def test_an_unknown_name_brings_the_nearest_and_all(plugins):
    things = plugins()
    for name in ("cubic", "quintic"):
        things.register(name)(name)
    with pytest.raises(ProglocError, match=r"^unknown thing 'quintc'; did you mean 'quintic'\? known: cubic, quintic$"):
        things["quintc"]


def test_installed_packages_add_names_but_do_not_replace_ours(plugins):
    things = plugins(theirs="math:pi", ours="math:e")
    things.register("ours")("ours")
    assert sorted(things) == ["ours", "theirs"]
    assert things["theirs"] == pytest.approx(3.14159, abs=1e-5)
    assert things["ours"] == "ours"


def test_an_installed_package_that_is_broken_is_named_every_time(plugins):
    things = plugins(broken="no_such_module:thing")
    for _ in range(2):
        with pytest.raises(ProglocError, match=r"installed thing 'broken' \(no_such_module:thing\) cannot be loaded"):
            things["broken"]
