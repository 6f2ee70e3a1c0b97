"""What the autopilot is asked for: clusters, and kinds of pilots with their limits.

A file in TOML (``pilots.toml``) holds it. Every error is one line with the file, the table and the
key, and what to do.
"""

import difflib
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from picas import units, views
from picas.errors import ConfigError, InputError
from picas.schedulers import MARGIN_SECONDS, Shape

_MARGIN = re.compile(r"--margin(?:=(.*))?")

T = TypeVar("T")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
_NO_DEFAULT = object()


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where pilots are submitted.

    Attributes:
        name: What the kinds of pilots call it.
        scheduler: Of which kind: ``slurm``, ``local``, or an entry point's name.
        via: What stands in front of the scheduler's commands: ``ssh login``.
        picas: What starts ``picas`` there; empty: as here.
        setup: Lines of shell that go before each pilot.
        ask_every: Seconds between two listings of its jobs, at least.
    """

    name: str
    scheduler: str = "slurm"
    via: str = ""
    picas: str = ""
    setup: str = ""
    ask_every: float = 60.0


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of pilots, and how many of them there may be.

    Attributes:
        name: Of the kind; jobs and the ledger are named after it.
        view: Whose tokens they run.
        cluster: Where they run.
        shape: What each of them asks for.
        run: More options of ``picas run``, and a command.
        min: So many are kept, also while there is nothing to do.
        max: How many there may be, those that wait for their start included.
        max_pending: How many may wait for their start.
        max_per_hour: How many may be submitted in an hour.
        idle: Seconds that a pilot stays without work.
        work_per_pilot: Seconds of work for each pilot, as far as history tells.
    """

    name: str
    view: str
    cluster: str
    shape: Shape = field(default_factory=Shape)
    run: Sequence[str] = ()
    min: int = 0
    max: int = 20
    max_pending: int = 5
    max_per_hour: int = 60
    idle: float = 300.0
    work_per_pilot: float = 600.0

    @property
    def margin(self) -> float:
        """Seconds before the end of their job at which its pilots end, by their options."""
        for option, following in pairwise([*self.run, ""]):
            if option == "--":
                break
            if match := _MARGIN.fullmatch(option):
                with suppress(InputError):
                    return units.seconds(following if match[1] is None else match[1])
        return MARGIN_SECONDS


@dataclass(frozen=True, slots=True)
class Config:
    """All that one autopilot looks after.

    Attributes:
        clusters: By name.
        kinds: Of pilots.
        pool: Its URL; None for the one that is configured.
    """

    clusters: Mapping[str, Cluster]
    kinds: Sequence[Kind]
    pool: str | None = None


def read(path: Path) -> Config:
    """Read a file.

    Raises:
        ConfigError: It cannot be used; the text says where and why.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    top = _Table(str(path), "", data)
    pool = top.take("pool", _text, None)
    clusters = {t.name: _cluster(t) for t in top.tables("clusters", "snellius")}
    kinds = [_kind(t, clusters) for t in top.tables("pilots", "single")]
    top.end()
    return Config(clusters, kinds, pool)


def _cluster(table: "_Table") -> Cluster:
    cluster = Cluster(
        table.name,
        scheduler=table.take("scheduler", _text, "slurm"),
        via=table.take("via", _text, ""),
        picas=table.take("picas", _text, ""),
        setup=table.take("setup", _text, ""),
        ask_every=table.take("ask_every", _seconds, 60.0),
    )
    table.end()
    return cluster


def _kind(table: "_Table", clusters: Mapping[str, Cluster]) -> Kind:
    only = next(iter(clusters)) if len(clusters) == 1 else _NO_DEFAULT
    cluster = table.take("cluster", _text, only, "say which of the clusters its pilots run on")
    if cluster not in clusters:
        table.refuse("cluster", f"there is no [clusters.{cluster}]", cluster, clusters)
    kind = Kind(
        table.name,
        view=table.take("view", _view, _NO_DEFAULT, 'say whose tokens, as view = "Monitor/todo"'),
        cluster=cluster,
        shape=Shape(
            cores=table.take("cores", _positive, 1),
            memory=table.take("memory", _size, None),
            gpus=table.take("gpus", _number, 0),
            time=table.take("time", _seconds, None),
            partition=table.take("partition", _text, None),
            options=table.take("options", _texts, ()),
            setup=clusters[cluster].setup,
        ),
        run=table.take("run", _run, ()),
        min=table.take("min", _number, 0),
        max=table.take("max", _positive, 20),
        max_pending=table.take("max_pending", _positive, 5),
        max_per_hour=table.take("max_per_hour", _positive, 60),
        idle=table.take("idle", _seconds, 300.0),
        work_per_pilot=table.take("work_per_pilot", _some_seconds, 600.0),
    )
    table.end()
    if kind.min > kind.max:
        table.refuse("min", f"{kind.min} is more than max, which is {kind.max}")
    return kind


class _Table:
    """A table of the file, of which each key is taken once.

    Args:
        file: The file's name.
        name: Of the table, with those around it: ``pilots.single``.
        data: What it holds.
    """

    def __init__(self, file: str, path: str, data: Mapping[str, Any]) -> None:
        self.name = path.rpartition(".")[2]
        self._file, self._path, self._data = file, path, data
        self._known: list[str] = []

    def take(self, key: str, read: Callable[[Any], T], default: Any, missing: str = "") -> T:
        """A value, read; the default where it is not given.

        Args:
            key: Its name.
            read: Makes it of what stands there; `InputError` or `ValueError` if it cannot.
            default: What it is by default; `_NO_DEFAULT`: it must be given.
            missing: What to do where it is missing.
        """
        self._known.append(key)
        if key not in self._data:
            if default is _NO_DEFAULT:
                self.refuse(key, f"it is missing: {missing}")
            return default  # type: ignore[no-any-return]
        try:
            return read(self._data[key])
        except (InputError, ValueError) as error:
            self.refuse(key, str(error))
            raise AssertionError from error

    def tables(self, key: str, example: str) -> list["_Table"]:
        """The tables in a table, of which there must be one at least."""
        self._known.append(key)
        found = self._data.get(key)
        if not isinstance(found, dict) or not found:
            raise ConfigError(
                f"{self._file}: there is no table [{key}.NAME]: add [{key}.{example}]"
            )
        tables = []
        for name, data in found.items():
            table = _Table(self._file, f"{key}.{name}", data)
            if not isinstance(data, dict):
                self.refuse(key, f"{name!r} is no table: write [{key}.{example}] above its keys")
            if not _NAME.fullmatch(name):
                table.refuse("", "a name has letters, digits, - and _, 40 at most")
            tables.append(table)
        return tables

    def end(self) -> None:
        """All was taken: what else is there is a slip."""
        for key in self._data:
            if key not in self._known:
                self.refuse(key, "there is no such key", key, self._known)

    def refuse(
        self, key: str, why: str, word: str = "", words: Sequence[str] | Mapping[str, Any] = ()
    ) -> None:
        """Raise a `ConfigError` about a key.

        Args:
            key: Which.
            why: What is wrong, and what to do.
            word: What stands there, that may be a slip of one of `words`.
            words: What could stand there.
        """
        where = ", ".join([self._file, *([f"[{self._path}]"] if self._path else [])])
        where += f", {key}" if key else ""
        if words:
            near = difflib.get_close_matches(word, words, n=1)
            why += f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(words)}"
        raise ConfigError(f"{where}: {why}")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise InputError(f"{units.short(value)} is no text; put it into quotes")
    return value


def _texts(value: Any) -> Sequence[str]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise InputError(f'{units.short(value)} is no list of texts; write it like ["--a", "b"]')
    return tuple(value)


def _run(value: Any) -> Sequence[str]:
    options = _texts(value)
    for option in options:
        if option == "--":
            break
        if option.partition("=")[0] in ("--view", "--pool"):
            raise InputError(f"{option.partition('=')[0]} has a key of its own in this file")
    return options


def _number(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InputError(f"{units.short(value)} is no number; write it like 4")
    return value


def _positive(value: Any) -> int:
    if _number(value) == 0:
        raise InputError("0 is too small; at least 1")
    return int(value)


def _seconds(value: Any) -> float:
    return units.seconds(value)


def _some_seconds(value: Any) -> float:
    if (seconds := units.seconds(value)) <= 0:
        raise InputError("it must be longer than nothing; write it like 10m")
    return seconds


def _size(value: Any) -> int:
    return units.size(value)


def _view(value: Any) -> str:
    return views.work_of(_text(value))
