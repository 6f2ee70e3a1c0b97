"""``picas run``: a pilot on this machine, until there is no work left."""

import logging
import os
import signal
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from picas import figures, jobid, schedulers, views
from picas.cli import exits
from picas.cli.common import counted, pool, pool_option
from picas.cli.params import Duration, Size
from picas.cli.progress import SAYING, Progress, Screen
from picas.pilot import CommandRunner, Pilot, StopCriteria, Summary, handled, new_holder
from picas.pilot.checkpoint import LIMIT as CHECKPOINT_LIMIT
from picas.pilot.checkpoint import Attached, Shared
from picas.pilot.command import LOG_LIMIT, check_program, check_template
from picas.pilot.pace import AHEAD_SECONDS
from picas.pool import Pool
from picas.process import adopt_orphans

_NAMED = 10
_NOT_FREE = (views.LOCKED, views.DONE, views.ERROR)

log = logging.getLogger(SAYING)


@click.command("run", context_settings={"allow_interspersed_args": False})
@click.option("--view", default="Monitor/todo", show_default=True, help="Which tokens to run.")
@click.option(
    "--slots",
    type=click.IntRange(1, 4096),
    default=jobid.allowed_cores,
    show_default="the cores this process may use",
    help="Tokens to run at once.",
)
@click.option(
    "--max-token-time",
    type=Duration(),
    help="Time limit of one token: 90s, 30m, 24h; then its exit code is 124.",
)
@click.option(
    "--max-total-time",
    type=Duration(),
    help="Start no token after this time; those that run are finished.",
)
@click.option("--max-tasks", type=click.IntRange(min=1), help="Run this many tokens at most.")
@click.option(
    "--max-scrub",
    type=click.IntRange(min=0),
    show_default="as 'picas settings' says",
    help="Give a failed token back for another try, this often.",
)
@click.option(
    "--drain-after",
    type=click.IntRange(min=0),
    default=20,
    show_default=True,
    help="End after so many different tokens failed in a row, as soon as they started; 0: never.",
)
@click.option(
    "--claim-ahead",
    type=Duration(),
    default=AHEAD_SECONDS,
    show_default="0.5s",
    help="Claim short tokens ahead: about so much running time beyond the free slots; 0: none.",
)
@click.option(
    "--idle",
    type=Duration(),
    default=0.0,
    show_default="0",
    help="Wait so long for new tokens when there are none.",
)
@click.option("--endless", is_flag=True, help="Wait for new tokens without an end.")
@click.option(
    "--bind/--no-bind",
    default=None,
    show_default="in a batch job",
    help="Give each task CPUs of its own.",
)
@click.option(
    "--attach",
    multiple=True,
    metavar="GLOB",
    help="Attach these files to the token; may hold {id} and fields. Can be given again.",
)
@click.option(
    "--logs",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the logs while tasks run.  [default: picas-logs/PILOT]",
)
@click.option("--keep-logs", is_flag=True, help="Keep the logs on disk when they are in the pool.")
@click.option(
    "--log-limit",
    type=Size(),
    default=LOG_LIMIT,
    show_default="1M",
    help="Bytes of each log that go into the token; of a longer one its beginning and end.",
)
@click.option(
    "--grace",
    type=Duration(),
    default=10.0,
    show_default="10s",
    help="Time between TERM and KILL when a task is ended.",
)
@click.option(
    "--stop-signal",
    type=click.Choice(["TERM", "INT", "USR1", "USR2", "HUP"], case_sensitive=False),
    default="TERM",
    show_default=True,
    help="What a task gets first when it is ended.",
)
@click.option(
    "--checkpoint-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder, shared by all hosts, where checkpoints stay.  [default: attached to the token]",
)
@click.option(
    "--checkpoint-limit",
    type=Size(),
    default=CHECKPOINT_LIMIT,
    show_default="64M",
    help="Bytes of a checkpoint that may be attached; a longer one is not kept. 0: attach none.",
)
@click.option(
    "--margin",
    type=Duration(),
    default=schedulers.MARGIN_SECONDS,
    show_default="60s",
    help="In a Slurm job: end so long before it does, and give back what runs; 0: do not look.",
)
@click.option("-v", "--verbose", is_flag=True, help="Show a line for each token.")
@click.option("--log-json", is_flag=True, help="Show what happens as JSON lines.")
@pool_option
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def run_command(
    command: tuple[str, ...],
    view: str,
    slots: int,
    claim_ahead: float,
    attach: tuple[str, ...],
    logs: Path | None,
    keep_logs: bool,
    log_limit: int,
    grace: float,
    stop_signal: str,
    checkpoint_dir: Path | None,
    checkpoint_limit: int,
    margin: float,
    bind: bool | None,
    verbose: bool,
    log_json: bool,
    pool_url: str | None,
    **criteria: Any,
) -> int:
    """Claim tokens, run them here, and record how each one ended, until none is left.

    Without COMMAND a token's input is run by bash. With it, {input}, {id} and other fields of the
    token are filled in, each as (part of) a single argument, without a shell:

        picas run -- python analyse.py --sample {input}

    The first TERM, INT (Ctrl-C) or USR1 stops the pilot: tasks get the grace time to end, and
    their tokens are given back. A second Ctrl-C leaves them no time. What they have written into
    the folder $PICAS_CHECKPOINT_DIR by then is there again at the next attempt.

    Tokens that fail do not change the exit status: 'picas list error' shows them.
    """
    check_template([*command, *attach])
    if command:
        check_program(command)
    view = "/".join(views.split(view))
    adopt_orphans()
    submission = _submission()
    holder = new_holder()
    with pool(pool_url) as opened:
        runner = CommandRunner(
            opened.address,
            command or None,
            attach=attach,
            logs=logs or Path("picas-logs") / holder.pilot,
            keep_logs=keep_logs,
            log_limit=log_limit,
            grace=grace,
            stop_signal=signal.Signals[f"SIG{stop_signal}"],
            checkpoints=(
                Shared(checkpoint_dir, opened.address)
                if checkpoint_dir
                else Attached(opened, checkpoint_limit)
            ),
            in_job=bool(holder.job),
        )
        with closing(runner):
            pilot = Pilot(
                opened,
                runner,
                holder=holder,
                view=view,
                slots=slots,
                criteria=StopCriteria(**criteria, ends_in=_ends_in(margin, grace)),
                about={"logs": str(runner.logs), **submission},
                spool=runner.logs / "spool",
                claim_ahead=claim_ahead,
                bind=bind,
            )
            screen = Screen(as_json=log_json, verbose=verbose)
            _say_start(pilot, opened, view, slots)
            with screen, Progress(pilot, opened, view, screen), handled(pilot) as came:
                summary = pilot.run()
        _say_files(runner, summary)
        return _say_end(summary, view, runner.logs, interrupted=signal.SIGINT in came)


def _submission() -> dict[str, str]:
    """By which submission of an autopilot this pilot came; pilots that tasks start have none."""
    name = os.environ.pop("PICAS_SUBMISSION", "")
    return {"submission": name} if name else {}


def _ends_in(margin: float, grace: float) -> float | None:
    """Seconds until the pilot has to end because its batch job does."""
    left = schedulers.time_left() if margin else None
    if left is None:
        return None
    usable = schedulers.usable(left, margin)
    margin = left - usable
    if grace >= margin:
        log.warning(
            "--grace %gs is too long: this pilot ends %.0f s before its job does (--margin), so "
            "that tasks which take that long may be killed and lost",
            grace,
            margin,
        )
    return usable


def _say_start(pilot: Pilot, opened: Pool, view: str, slots: int) -> None:
    state = views.split(view)[1]
    if state in _NOT_FREE:
        back = f"picas reset {view}"
        log.warning(
            "tokens of %s are not free: a pilot claims none; '%s' gives them back", view, back
        )
    facts = {"pool": opened.url, "view": view, "slots": slots, "pilot": pilot.holder.pilot}
    log.info(
        "%s on %s in %s (%s)",
        counted(slots, "slot"),
        view,
        opened.url,
        pilot.holder.pilot,
        extra=facts,
    )


def _say_files(runner: CommandRunner, summary: Summary) -> None:
    """What a person should know of the tasks' files."""
    if summary.counters.ran:
        for pattern in runner.attach:
            if pattern not in runner.matched:
                log.warning("--attach %r matched no file of any token", pattern)
    if runner.kept:
        logs = counted(len(runner.kept), "log")
        log.info("too long for the tokens, kept on disk: %s in %s", logs, runner.logs)


def _say_end(summary: Summary, view: str, logs: Path, *, interrupted: bool) -> int:
    """The last words, and the status to end with."""
    counters = summary.counters.as_dict()
    log.info("%s", _last_line(summary, view), extra={**counters, "reason": summary.reason})
    if figures.is_drained(summary.reason):
        failed = f"{views.split(view)[0]}/error" if summary.counters.error else view
        log.error(
            "drained: %s. Is it this host, or the command? 'picas list %s', 'picas logs ID --err' "
            "and 'picas explain ID' tell",
            summary.trouble,
            failed,
        )
    elif summary.trouble:
        log.error("this host could not run tasks: %s; logs: %s", summary.trouble, logs)
    if summary.unsettled:
        some = ", ".join(summary.unsettled[:_NAMED])
        more = len(summary.unsettled) - _NAMED
        log.error(
            "%s could not be given back or recorded (%s); logs: %s",
            counted(len(summary.unsettled), "token"),
            f"{some} and {more:,} more" if more > 0 else some,
            logs,
            extra={"unsettled": summary.unsettled},
        )
    if summary.kept:
        log.error("%s", summary.kept_line(), extra={"kept": summary.kept})
    if interrupted:
        return exits.INTERRUPTED
    if summary.trouble or summary.unsettled or summary.kept:
        return exits.HOST
    return exits.UNREACHABLE if summary.outage else exits.OK


def _last_line(summary: Summary, view: str) -> str:
    did = summary.counters
    failed = f"{did.error:,} failed"
    if did.error:
        failed += f" (picas list {views.split(view)[0]}/error)"
    parts = [f"{counted(did.done, 'token')} done", failed, f"{did.released:,} given back"]
    if did.scrubbed:
        parts.insert(2, f"{counted(did.scrubbed, 'failure')} to be tried again")
    if did.fenced:
        parts.append(f"{counted(did.fenced, 'result')} not recorded: the token was taken away")
    reason = summary.reason
    if summary.trouble:
        reason = "stopped"
    elif reason.startswith("SIG"):
        reason = f"stopped by {reason}"
    return f"{', '.join(parts)}; {reason}"
