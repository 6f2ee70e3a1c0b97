"""``picas recover``: the results that pilots left on disk get into their pool."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import click

from picas import config, token
from picas.cli import exits
from picas.cli.common import Report, counted, json_option, note, pool_option, settings
from picas.errors import ConfigError, InputError, PicasError
from picas.pilot.entry import Entry, is_inside
from picas.pilot.recorder import BATCH_BYTES, BATCH_TOKENS
from picas.pilot.spool import Spool
from picas.pool import Pool, Verdict
from picas.pool.connect import open_pool

_SPOOL = "spool"
_NAMED = 10


@click.command("recover")
@click.argument(
    "folders",
    metavar="DIR...",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
)
@json_option
@pool_option
def recover_command(folders: tuple[Path, ...], as_json: bool, pool_url: str | None) -> int:
    """Record the results that pilots kept on disk because the pool did not answer.

    DIR is a pilot's folder of logs, like picas-logs/pilot_..., or one with several of these, like
    picas-logs. Each result goes into the pool that it is from; --pool is for a pool that has
    another address now. If a token was given to another pilot meanwhile, its result is not
    recorded, but moved into the folder 'fenced' beside the logs.

    A pilot that lives records its results itself: its folder is left alone.
    """
    report = Report(as_json=as_json)
    found = Recovered()
    with ExitStack() as stack:
        pools = _Pools(stack, pool_url or click.get_current_context().find_object(str))
        for folder in _spools(folders):
            _recover(folder, pools, found)
            if folder.parent not in {named.absolute() for named in folders}:
                _remove_if_empty(folder.parent)
    _say(found, folders, report)
    report.end()
    return found.status


@dataclass(slots=True)
class Recovered:
    """What became of the results that were found.

    Attributes:
        recorded: How many are in their pools.
        fenced: Files of those whose tokens were taken away.
        refused: Ids of the tokens whose results the pool does not take.
        left: How many are still where they were, the refused ones among them.
        busy: Folders that another process uses.
        status: The exit status.
    """

    recorded: int = 0
    fenced: list[Path] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    left: int = 0
    busy: list[Path] = field(default_factory=list)
    status: int = exits.OK

    def leave(self, number: int, error: PicasError | None = None) -> None:
        """Note results that stay, if one knows because of which error of the pool."""
        self.left += number
        if self.status in (exits.OK, exits.HOST):
            self.status = exits.HOST if error is None else exits.status_of(error)


class _Pools:
    """The pools that entries name, each opened once.

    Args:
        stack: Closes them.
        wanted: The pool that the user says everything goes into.
    """

    def __init__(self, stack: ExitStack, wanted: str | None) -> None:
        self._stack = stack
        self._wanted = wanted
        self._known: dict[str, Pool | PicasError] = {}
        self._renamed: dict[str, bool] = {}

    def get(self, address: str) -> Pool | PicasError:
        """The pool with the results of an address, or why there is none; that is told once."""
        if address not in self._known:
            try:
                found = self._settings(address)
                opened = self._stack.enter_context(open_pool(found, create=False))
                self._renamed[address] = not _same(found.pool, address)
                self._known[address] = opened
            except PicasError as error:
                self.failed(address, error)
        return self._known[address]

    def failed(self, address: str, error: PicasError) -> None:
        """Ask a pool no more, and tell why."""
        note(str(error))
        self._known[address] = error

    def renamed(self, address: str) -> bool:
        """Tell whether the pool of these results has another address now, as the user says."""
        return self._renamed[address]

    def _settings(self, address: str) -> config.Settings:
        if self._wanted:
            return settings(self._wanted)
        configured = config.load()
        source = configured.sources["pool"]
        if source == "default":
            if isinstance(named := config.parse_pool(address), config.CouchLocation):
                # A password must not go wherever a file says.
                raise ConfigError(
                    f"there are results of {named.url}, and no pool is configured; "
                    f"if that is yours, say --pool {named.url}"
                )
            return settings(address)
        if not _same(configured.pool, address):
            raise ConfigError(
                f"there are results of {address}, and the pool is {configured.pool.url} (from "
                f"{source.removeprefix('file ')}); say with --pool into which they go"
            )
        return settings(None)


def _same(location: config.PoolLocation, address: str) -> bool:
    named = config.parse_pool(address)
    if isinstance(location, config.SqliteLocation) and isinstance(named, config.SqliteLocation):
        return location.path.resolve() == named.path.resolve()
    return location.url == named.url


def _spools(folders: Iterable[Path]) -> list[Path]:
    """The folders of kept results in what the user named."""
    spools: list[Path] = []
    for named in folders:
        folder = named.absolute()
        # Not through a link: what it leads to is perhaps no pilot's.
        there = [
            f
            for f in (folder / _SPOOL, *sorted(folder.glob(f"*/{_SPOOL}")))
            if f.is_dir() and is_inside(f, folder)
        ]
        spools += there or ([folder] if folder.name == _SPOOL else [])
    return list(dict.fromkeys(spools))


def _recover(folder: Path, pools: _Pools, found: Recovered) -> None:
    """Record what one pilot left."""
    with closing(Spool(folder)) as spool:
        try:
            locked = spool.lock()
        except FileNotFoundError:
            return  # another 'picas recover' was here
        except OSError as error:
            note(f"cannot write in {folder}: {error.strerror}")
            found.leave(len(list(folder.glob("*.json"))))
            return
        if not locked:
            note(f"{folder.parent} is left alone: its pilot lives, or somebody else recovers it")
            found.busy.append(folder.parent)
            return
        _empty(spool, pools, found)
        spool.tidy()


def _empty(spool: Spool, pools: _Pools, found: Recovered) -> None:
    """Record all that is in a folder and can be read."""

    def broken(problem: InputError) -> None:
        note(f"{problem}; it is left alone")
        found.leave(1)

    for address, entries in groupby(spool.entries(broken), key=lambda entry: entry.pool):
        for batch in _batches(entries):
            pool = pools.get(address)
            try:
                if isinstance(pool, PicasError):
                    found.leave(len(batch), pool)
                else:
                    _settle(pool, _known(pool, batch, pools, found), spool, found)
            except PicasError as error:
                pools.failed(address, error)
                found.leave(len(batch), error)


def _batches(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    """Entries in groups that one settling write can carry."""
    batch: list[Entry] = []
    size = 0
    for entry in entries:
        size += entry.settlement.size
        if batch and (len(batch) >= BATCH_TOKENS or size > BATCH_BYTES):
            yield batch
            batch, size = [], entry.settlement.size
        batch.append(entry)
    if batch:
        yield batch


def _known(pool: Pool, batch: Sequence[Entry], pools: _Pools, found: Recovered) -> Sequence[Entry]:
    """Those whose tokens the pool gave to the pilot, where the user says that it is their pool.

    In another pool all of them would count as fenced.
    """
    if not pools.renamed(batch[0].pool):
        return batch
    claims = [entry.settlement.token for entry in batch]
    docs = pool.store.read([doc["_id"] for doc in claims])
    known = []
    for entry, claimed, doc in zip(batch, claims, docs, strict=True):
        history = () if doc is None else token.attempts(doc)
        if token.holds(doc, claimed) or any(e.get("lease") == claimed["lease"] for e in history):
            known.append(entry)
    if strangers := len(batch) - len(known):
        note(f"{counted(strangers, 'result')} of {batch[0].pool} cannot be of {pool.url}")
        found.leave(strangers)
    return known


def _settle(pool: Pool, entries: Sequence[Entry], spool: Spool, found: Recovered) -> None:
    """Record results."""
    verdicts = pool.settle([entry.settlement for entry in entries])
    for entry, verdict in zip(entries, verdicts, strict=True):
        lease, token_id = entry.settlement.lease, entry.settlement.token["_id"]
        if verdict is Verdict.REFUSED:
            found.refused.append(token_id)
            found.leave(1)
        elif verdict is Verdict.FENCED:
            try:
                found.fenced.append(spool.fence(entry.settlement))
            except OSError as error:
                note(f"{entry.path} cannot be moved: {error.strerror}")
                found.leave(1)
        else:
            found.recorded += 1
            if verdict is Verdict.RECORDED:
                entry.delete_logs()
            else:
                note(f"{token_id}: recorded without its logs and files, which stay on disk")
            spool.drop(lease, leave_files=verdict is Verdict.BARE)


def _say(found: Recovered, folders: Sequence[Path], report: Report) -> None:
    facts = {
        "recorded": found.recorded,
        "fenced": [str(path) for path in found.fenced],
        "refused": found.refused,
        "left": found.left,
        "busy": [str(path) for path in found.busy],
    }
    if not (found.recorded or found.fenced or found.left or found.busy):
        report.say(f"nothing to recover in {', '.join(map(str, folders))}", **facts)
        return
    report.say(f"recorded {counted(found.recorded, 'result')}", **facts)
    if found.fenced:
        where = ", ".join(sorted({str(path.parent) for path in found.fenced}))
        number = counted(len(found.fenced), "result")
        report.say(f"fenced {number}, the tokens were taken away meanwhile: kept in {where}")
    if found.refused:
        some = ", ".join(found.refused[:_NAMED]) + (", …" if len(found.refused) > _NAMED else "")
        report.say(f"the pool refused {counted(len(found.refused), 'result')}: {some}")
    if found.left:
        report.say(f"{counted(found.left, 'result')} left on disk")


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        return
