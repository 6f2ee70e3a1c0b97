"""Errors beside the couchdb package, loaded or not."""

import sys
from types import ModuleType

import pytest

from picas.errors import Conflict, Forbidden, PoolError, TokenMissing, ViewMissing
from picas.interop import conflicts, errors_of_both, missing, of_both


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A stand-in for ``couchdb.http``, as if a script had imported it."""
    module = ModuleType("couchdb.http")
    for name in ("ResourceConflict", "ResourceNotFound", "Unauthorized", "Forbidden"):
        setattr(module, name, type(name, (Exception,), {}))
    monkeypatch.setitem(sys.modules, "couchdb.http", module)
    return module


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our errors are all there are."""
    monkeypatch.delitem(sys.modules, "couchdb.http", raising=False)
    assert conflicts() == (Conflict,)
    assert of_both(Conflict) is Conflict
    with pytest.raises(Conflict), errors_of_both():
        raise Conflict("changed")


def test_with_the_package(package: ModuleType) -> None:
    """Ours are caught by its names, and by ours; the text and the cause are kept."""
    cause = OSError("why")
    with pytest.raises(package.ResourceNotFound, match="no view") as caught, errors_of_both():
        raise ViewMissing("no view") from cause
    assert isinstance(caught.value, ViewMissing)
    assert caught.value.__cause__ is cause
    with pytest.raises(package.ResourceConflict), errors_of_both(), errors_of_both():
        raise Conflict("changed")
    assert issubclass(of_both(Forbidden), package.Forbidden)
    assert of_both(Conflict) is of_both(Conflict)


def test_what_to_catch(package: ModuleType) -> None:
    """Conflicts and missing things of both kinds."""
    assert conflicts() == (Conflict, package.ResourceConflict)
    with pytest.raises(missing()):
        raise of_both(TokenMissing)("gone")
    with pytest.raises(missing()):
        raise package.ResourceNotFound


def test_names_the_package_lacks(package: ModuleType) -> None:
    """An error for which it has no name stays ours."""
    assert of_both(PoolError) is PoolError
