"""``picas explain``: why a token does not run, or why it failed, and what to do."""

import contextlib
from collections.abc import Sequence

import click
from rich.table import Table
from rich.text import Text

from picas import figures, token
from picas.cli import table
from picas.cli.common import console, json_option, pool, pool_option, print_json
from picas.cli.table import value
from picas.errors import InputError, NotFound, Unsupported
from picas.explain import Finding, Scene, explain
from picas.pilot.lease import LeaseTimes
from picas.pool import Pool
from picas.token import Document, State


@click.command("explain")
@click.argument("token_id", metavar="ID")
@json_option
@pool_option
def explain_command(token_id: str, as_json: bool, pool_url: str | None) -> None:
    """Tell why a token does not run, or why it failed, and what to do about it.

    It compares what the token says with the pilots that live, the views, and the settings of the
    pool. The most important comes first. A beginning of the ID will do.
    """
    with pool(pool_url) as opened:
        doc = opened.get(token_id)
        findings = explain(doc, _scene(opened, doc))
    state = token.state(doc)
    if as_json:
        name = None if state is None else state.value
        print_json({"_id": doc["_id"], "state": name, "findings": [f.as_dict() for f in findings]})
        return
    _show(doc, state, findings)


def _scene(opened: Pool, doc: Document) -> Scene:
    """What the pool has beside the token that may explain it."""
    settings, pilots, now = opened.settings(), opened.pilots(), opened.now()
    lease = LeaseTimes.of(settings).lease
    living = [pilot for pilot in pilots if figures.is_alive(pilot, now, lease)]
    waiting: dict[str, int] = {}
    for view in {str(pilot.get("view")) for pilot in living if token.state(doc) is State.TODO}:
        # A pilot's document may name a view that was removed since, or odd ones.
        with contextlib.suppress(NotFound, Unsupported, InputError):
            waiting[view] = opened.count(view)
    return Scene(now, lease, table.clock, pilots, opened.designs(), settings, waiting)


def _show(doc: Document, state: State | None, findings: Sequence[Finding]) -> None:
    out = console()
    code = value(doc.get("exit_code")) if state is State.ERROR else ""
    standing = table.state_text(state) if not code else Text(f"error (exit code {code})", "red")
    out.print(Text.assemble((table.safe(doc["_id"]), "bold"), "  ", standing))
    texts = [Text(table.safe(finding.text)) for finding in findings]
    if not out.is_terminal:
        click.echo("\n".join(f"- {text.plain}" for text in texts))
        return
    lines = Table.grid(padding=(0, 1))
    for text in texts:
        lines.add_row("-", text)
    out.print(lines, soft_wrap=False)
