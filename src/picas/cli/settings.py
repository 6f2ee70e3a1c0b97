"""``picas settings``: what all pilots of a pool share, and how failed tokens are tried again."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click
from rich.text import Text

from picas import retry
from picas.cli import table
from picas.cli.common import counted, json_option, note, pool, pool_option, print_json
from picas.cli.table import Column
from picas.errors import InputError, ViewMissing
from picas.figures import is_alive
from picas.pilot.lease import LEASE_SECONDS, LeaseTimes
from picas.pool import Pool, PoolSettings
from picas.pool.settings import TIMES, change, told
from picas.token import Document

_ABOUT = {
    "lease": "silence after which a pilot counts as gone",
    "heartbeat": "how often a pilot says that it lives",
    "tries": "how often a token runs at most",
    "delay": "wait before the second try; then doubled",
    "longest_delay": "it never waits longer than this",
    "final": "exit codes after which there is no other try",
    "elsewhere": "exit codes that send it to another host",
    "elsewhere_time": "how long its host then leaves it to others",
    "memory_factor": "more memory after it ran out of it; 1: no",
}
_COLUMNS = (
    Column("setting"),
    Column("value"),
    Column("from"),
    Column("meaning", least=20, optional=True),
)
_VARIABLES = ("PICAS_LEASE", "PICAS_HEARTBEAT")


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting as it holds.

    Attributes:
        name: Its name.
        value: As JSON; times in seconds.
        source: ``default``, ``pool``, or the name of the design that it is set for.
        text: The value as a person would write it.
    """

    name: str
    value: Any
    source: str
    text: str


@click.command("settings")
@click.argument("changes", nargs=-1, metavar="[NAME=VALUE]...")
@click.option(
    "--view",
    "design",
    metavar="DESIGN",
    help="The retry policy of tokens from this design's views.",
)
@json_option
@pool_option
def settings_command(
    changes: tuple[str, ...], design: str | None, as_json: bool, pool_url: str | None
) -> None:
    """Show the settings that all pilots of the pool share; with NAME=VALUE, set them.

        picas settings tries=3 delay=30s final=2,64-78

    NAME= takes one out, so that the default holds. Several are set all together, or none. Pilots
    read them when they start.
    """
    wanted = [_change(text) for text in changes]
    with pool(pool_url) as opened:
        before = opened.settings(lenient=bool(wanted))
        name = None if design is None else _design(design, opened, before)
        after = before
        if wanted:
            after = opened.change_settings(lambda there: _changed(there, wanted, name))
            _warn(opened, before, after)
        _note_odd(after)
        _show(opened.url, after, name, as_json=as_json)


def _change(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise InputError(f"{text!r}: write NAME=VALUE to set it, or NAME= to take it out")
    return name.strip(), value.strip()


def _design(text: str, opened: Pool, there: PoolSettings) -> str:
    """The design that is meant, by its name or that of a view in it."""
    if text in there.designs:
        return text
    name = text.partition("/")[0]
    designs = opened.designs().keys()
    if name not in designs | there.designs.keys():
        known = ", ".join(sorted(designs)) or "none"
        raise ViewMissing(f"no view '{name}/todo' in {opened.url}; the designs are: {known}")
    return name


def _changed(there: Document, wanted: Sequence[tuple[str, str]], design: str | None) -> Document:
    """The settings' document with all changes in it, checked as a pilot would."""
    doc = change(there, wanted, design)
    LeaseTimes.of(PoolSettings.readable(doc), {})
    return doc


def _warn(opened: Pool, before: PoolSettings, after: PoolSettings) -> None:
    """Say what does not follow the change."""
    old, new = before.lease or LEASE_SECONDS, after.lease or LEASE_SECONDS
    living = sum(is_alive(doc, opened.now(), old) for doc in opened.pilots(past=False))
    if living and before != after:
        line = f"{counted(living, 'pilot')} at work: the old settings hold there to the end"
        if new < old:
            line += "; new ones may take them for gone too early, so let them end first"
        note(line)
    for name in _VARIABLES:
        if os.environ.get(name):
            note(f"{name} is set here: pilots that are started so follow it instead")


def _note_odd(there: PoolSettings) -> None:
    """Say what in the settings does not hold."""
    if there.unknown:
        names = table.safe(", ".join(there.unknown))
        note(f"not known to this version of PiCaS, and left as it is: {names}")
    if there.problems:
        note(table.safe(f"still not right: {told(there.problems)}"))


def _show(url: str, there: PoolSettings, design: str | None, *, as_json: bool) -> None:
    rows = [*(() if design else _times(there)), *_policy(there, design)]
    policies = {name: dict(policy) for name, policy in there.designs.items() if policy}
    if as_json:
        values = {r.name: {"value": r.value, "from": r.source} for r in rows}
        print_json({"pool": url, "design": design, "settings": values, "designs": policies})
        return
    about = f", tokens of {design}/…" if design else ""
    click.echo(table.safe(f"pool {url}{about}"))
    table.show(table.table(_COLUMNS, [_row(setting) for setting in rows]))
    if policies and not design:
        names = table.safe(", ".join(sorted(policies)))
        click.echo(f"\nwith a retry policy of their own: {names} (--view)")


def _row(setting: Setting) -> Sequence[str | Text]:
    style = "dim" if setting.source == "default" else "bold"
    texts = (setting.text or "none", setting.source, _ABOUT[setting.name])
    return [setting.name, *(Text(table.safe(text), style=style) for text in texts[:2]), texts[2]]


def _times(there: PoolSettings) -> Iterable[Setting]:
    times = LeaseTimes.of(there, {})
    for name in TIMES:
        value = getattr(times, name)
        source = "default" if getattr(there, name) is None else "pool"
        yield Setting(name, value, source, _span(value))


def _policy(there: PoolSettings, design: str | None) -> Iterable[Setting]:
    """The retry policy, of all tokens or of those of a design."""
    layers: dict[str, Mapping[str, Any]] = {"pool": there.retry}
    if design is not None:
        layers = {design: there.designs.get(design, {}), **layers}
    policy = retry.policy(*layers.values())
    for name in retry.SETTINGS:
        source = next((which for which, layer in layers.items() if name in layer), "default")
        value, text = _written(name, getattr(policy, name))
        yield Setting(name, value, source, text)


def _written(name: str, value: Any) -> tuple[Any, str]:
    """A setting of a policy as JSON, and as a person would write it."""
    if isinstance(value, tuple):
        codes = [r.start if len(r) == 1 else f"{r.start}-{r.stop - 1}" for r in value]
        return codes, ",".join(map(str, codes))
    is_time = name in ("delay", "longest_delay", "elsewhere_time")
    return value, _span(value) if is_time else f"{value:g}"


def _span(seconds: float) -> str:
    """A span of time as it is written: ``90s``, ``5m``, ``1h30m``."""
    whole, text = int(seconds), ""
    if whole != seconds or whole < 60:
        return f"{seconds:g}s"
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        number, whole = divmod(whole, length)
        text += f"{number}{unit}" if number else ""
    return text
