"""``picas reap``: the tokens of pilots that are gone go back."""

import time

import click

from picas import figures
from picas.cli.common import Report, counted, json_option, note, pool, pool_option
from picas.cli.params import Duration
from picas.pilot.lease import LeaseTimes
from picas.pool import Pool, Reaped
from picas.pool.reap import LOOKS, grace, pause


@click.command("reap")
@click.option(
    "--lease",
    type=Duration(),
    help="Time without a heartbeat after which a pilot counts as gone.  [env: PICAS_LEASE; "
    "default: what 'picas settings' says, 5m]",
)
@json_option
@pool_option
def reap_command(lease: float | None, as_json: bool, pool_url: str | None) -> None:
    """Give back the tokens of pilots whose heartbeat stopped: killed, or on a host that died.

    Pilots that are silent are watched for a quarter of the lease time first, since after an outage
    of the pool all are silent. It costs the tokens no retry. Pilots do the same now and then, and
    before they end. Tokens that a classic client locked are left alone: 'picas reset locked
    --locked-for 24h' is for these.
    """
    report = Report(as_json=as_json)
    with pool(pool_url) as opened:
        seconds = LeaseTimes.of(opened.settings()).lease if lease is None else lease
        reaped = _reap(opened, seconds)
    facts = {"pilots": list(reaped.pilots), "tokens": reaped.tokens, "errors": reaped.errors}
    line = f"gave back {counted(reaped.tokens, 'token')} of pilots that are gone"
    if reaped.errors:
        line += f"; {reaped.errors:,} closed as errors: lost too often running"
    if reaped.suspects:
        line += f"; {counted(len(reaped.suspects), 'pilot')} silent, but not for long enough"
    elif not reaped.pilots and reaped.living:
        heard = counted(reaped.living, "pilot")
        line += f"; {heard} heard of within the lease time ({figures.duration(seconds)})"
    report.say(line, **facts, suspects=list(reaped.suspects))
    report.end()


def _reap(opened: Pool, lease: float) -> Reaped:
    """Look, and again as long as it cannot be told if pilots that are silent are gone."""
    pilots: tuple[str, ...] = ()
    tokens = errors = 0
    for number in range(3 * LOOKS):
        look = opened.reap(lease, thorough=True, tidy=number == 0)
        pilots += look.pilots
        tokens, errors = tokens + look.tokens, errors + look.errors
        if not look.suspects:
            break
        if number == 0:
            silent = counted(len(look.suspects), "pilot")
            note(f"{silent} silent: watching for {grace(lease):.0f} s or more")
        time.sleep(pause(lease))
    return Reaped(pilots, tokens, errors, look.suspects, look.living)
