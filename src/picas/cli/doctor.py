"""``picas doctor``: is everything in place, and if not, what to do."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
from rich.text import Text

from picas.cli import common
from picas.cli.checks import CHECKS, Check, Finding, Subject
from picas.cli.common import json_option, pool_option
from picas.cli.exits import FAILED, OK
from picas.cli.params import Duration
from picas.cli.slurm_checks import QUEUE_SECONDS, SlurmChecks
from picas.cli.submit import sbatch_option, script_option, setup_of
from picas.credentials import redact
from picas.errors import ConfigError, PicasError

_STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red"}
_NAME_WIDTH = max(len(check.name) for check in CHECKS)


@dataclass(frozen=True, slots=True)
class Result:
    """What one check found; no findings where it was left out.

    Attributes:
        check: Its name.
        findings: What it found.
    """

    check: str
    findings: tuple[Finding, ...] = ()


@click.command("doctor")
@click.option("--slurm", is_flag=True, help="Look at Slurm, too, and at what jobs need.")
@click.option("--partition", metavar="NAME", help="With --slurm: where pilots are to run.")
@click.option("--job", is_flag=True, help="With --slurm: look at the pool from a node, by a job.")
@click.option(
    "--wait",
    type=Duration(),
    default=QUEUE_SECONDS,
    show_default="2m",
    help="With --job: how long it may wait for its start; then it is cancelled.",
)
@sbatch_option
@script_option
@pool_option
@json_option
def doctor_command(
    slurm: bool,
    partition: str | None,
    job: bool,
    wait: float,
    options: tuple[str, ...],
    script: Path | None,
    pool_url: str | None,
    as_json: bool,
) -> int:
    """Check configuration, pool and this host, and say what to do about each problem.

    To see whether it may write, it writes and deletes one small document that no view shows. Ends
    with status 1 if there is a problem.
    """
    checks: tuple[Check, ...] = CHECKS
    if slurm or partition or job or options or script:
        checks += SlurmChecks(partition, job, wait, options, setup_of(script)).checks()
    subject = Subject(pool_url or click.get_current_context().find_object(str))
    results: list[Result] = []
    try:
        for result in examine(subject, checks):
            results.append(result)
            if not as_json:
                _print(result)
    finally:
        subject.close()
    problems = _count(results, "problem")
    if as_json:
        common.print_json(_report(results))
    else:
        click.echo(_summary(results))
    return FAILED if problems else OK


def examine(subject: Subject, checks: Sequence[Check]) -> Iterator[Result]:
    """Run checks in order; one whose ground is missing is left out."""
    bad: set[str] = set()
    kind = ""
    for check in checks:
        if bad.intersection(check.needs):
            if check.kind in ("", kind):
                bad.add(check.name)
                yield Result(check.name)
            continue
        kind = kind or _kind(subject)
        if check.kind not in ("", kind):
            continue
        findings = tuple(_findings(check, subject))
        if any(finding.status == "problem" for finding in findings):
            bad.add(check.name)
        yield Result(check.name, findings)


def _kind(subject: Subject) -> str:
    """The kind of the pool; empty as long as the configuration cannot be read."""
    try:
        return subject.settings.pool.kind
    except ConfigError:
        return ""


def _findings(check: Check, subject: Subject) -> Iterator[Finding]:
    """A check's findings; what it failed of is the last one."""
    try:
        yield from check.run(subject)
    except PicasError as error:
        what, _, advice = str(error).partition("; ")
        yield Finding("problem", redact(what), redact(advice))
    except Exception as error:  # noqa: BLE001 - the other checks go on
        text = f"cannot be checked: {type(error).__name__}: {redact(str(error))}"
        yield Finding("problem", text, "if the rest is in order, please report this")


def _print(result: Result) -> None:
    console = common.console()
    for finding in result.findings:
        line = Text().append(f"{finding.status:8} ", style=_STYLES[finding.status])
        line.append(f"{result.check:{_NAME_WIDTH}}  {finding.text}")
        console.print(line, soft_wrap=True)
        if finding.advice:
            console.print(
                f"{'':{_NAME_WIDTH + 11}}-> {finding.advice}", soft_wrap=True, markup=False
            )


def _summary(results: Sequence[Result]) -> str:
    counts = ((_count(results, status), status) for status in ("problem", "warning"))
    told = ", ".join(common.counted(number, status) for number, status in counts if number)
    left_out = ", ".join(result.check for result in results if not result.findings)
    return (told or "all is well") + (
        f"; not checked because of that: {left_out}" if left_out else ""
    )


def _report(results: Sequence[Result]) -> dict[str, object]:
    return {
        "ok": _count(results, "problem") == 0,
        "checks": [
            {"check": r.check, "status": f.status, "text": f.text, "advice": f.advice}
            for r in results
            for f in r.findings
        ],
        "not_checked": [result.check for result in results if not result.findings],
    }


def _count(results: Sequence[Result], status: str) -> int:
    return sum(finding.status == status for r in results for finding in r.findings)
