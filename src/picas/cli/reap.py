"""``picas reap``: the tokens of pilots that are gone go back."""

import click

from picas.cli.common import Report, counted, json_option, pool, pool_option
from picas.cli.params import Duration
from picas.pilot.lease import LeaseTimes


@click.command("reap")
@click.option(
    "--lease",
    type=Duration(),
    help="Time without a heartbeat after which a pilot counts as gone.  [env: PICAS_LEASE; "
    "default: 5m]",
)
@json_option
@pool_option
def reap_command(lease: float | None, as_json: bool, pool_url: str | None) -> None:
    """Give back the tokens of pilots whose heartbeat stopped: killed, or on a host that died.

    It costs the tokens no retry. Pilots do the same now and then, and before they end. Tokens that
    a classic client locked are left alone: 'picas reset locked --locked-for 24h' is for these.
    """
    times = LeaseTimes.from_environ()
    report = Report(as_json=as_json)
    with pool(pool_url) as opened:
        reaped = opened.reap(times.lease if lease is None else lease, thorough=True)
    facts = {"pilots": list(reaped.pilots), "tokens": reaped.tokens, "errors": reaped.errors}
    line = f"gave back {counted(reaped.tokens, 'token')} of pilots that are gone"
    if reaped.errors:
        line += f"; {reaped.errors:,} closed as errors: lost too often running"
    report.say(line, **facts)
    report.end()
