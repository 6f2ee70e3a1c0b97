"""What a scheduler is asked for: to submit pilots, to list and to cancel its jobs."""

import abc
import enum
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

NAME = "picas"
"""How the names of all jobs begin that are submitted here."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a job asks for.

    Attributes:
        cores: Of each.
        memory: Bytes of each; None for the site's default.
        gpus: Of each.
        time: Seconds of wall-clock time of each; None for the site's default.
        partition: Where; None for the site's default.
        options: More options, in the scheduler's own words.
        setup: Lines of shell that go before the pilot.
    """

    cores: int = 1
    memory: int | None = None
    gpus: int = 0
    time: float | None = None
    partition: str | None = None
    options: Sequence[str] = ()
    setup: str = ""


@dataclass(frozen=True, slots=True)
class Batch:
    """Jobs to be submitted together, each of them one pilot on one node.

    Attributes:
        command: What starts a pilot: a command and its arguments.
        environ: Variables that the jobs get beside those of the submitter; no secrets.
        pilots: How many.
        shape: What each of them asks for.
        name: Of the jobs; begins with `NAME`.
    """

    command: Sequence[str]
    environ: Mapping[str, str]
    pilots: int = 1
    shape: Shape = field(default_factory=Shape)
    name: str = NAME

    def lines(self, setup: Sequence[str]) -> list[str]:
        """The end of a job's script: what goes before the pilot, and the pilot itself.

        Args:
            setup: Lines of shell.
        """
        exports = [f"export {name}={shlex.quote(value)}" for name, value in self.environ.items()]
        # exec: the pilot takes the place of the shell, so that the scheduler's signals reach it.
        return [*setup, *exports, f"exec {shlex.join(self.command)}", ""]


class JobState(enum.Enum):
    """How a job is, as far as it matters here."""

    PENDING = "pending"
    """It waits to be started, for the first time or again: nothing of it runs."""
    RUNNING = "running"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Job:
    """A job as the scheduler shows it; one of an array counts as a job.

    Attributes:
        id: As the documents of pilots have it: ``12_3``.
        name: As it was submitted.
        state: How it is.
        reason: In the scheduler's words: ``NODE_FAIL``.
    """

    id: str
    name: str
    state: JobState
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a scheduler takes.

    Attributes:
        pilots: How many by one submission.
    """

    pilots: int


class Scheduler(abc.ABC):
    """Where pilots are submitted.

    Others plug in by an entry point of the group ``picas.schedulers``: a class of this kind, made
    with what stands in front of its commands (``ssh login``; empty for none).

    Every verb raises `TaskError` if the scheduler refused, or did not answer: what it was asked for
    may have been done all the same. It raises `ConfigError` if nothing was done, since it cannot be
    asked from here.
    """

    elsewhere: bool
    """True if pilots run on other hosts, which cannot use a pool that is a file on this one."""

    @abc.abstractmethod
    def script(self, batch: Batch) -> str:
        """What would be submitted, for a person to read."""

    @abc.abstractmethod
    def submit(self, batch: Batch) -> Iterator[tuple[str, int]]:
        """Submit pilots, in as many submissions as the limits demand.

        Yields:
            For each submission its id, and how many pilots it has.
        """

    @abc.abstractmethod
    def jobs(self, prefix: str) -> list[Job]:
        """All jobs of this user whose name begins so, by one request.

        Those that ended are among them for a while, and then no more.
        """

    @abc.abstractmethod
    def cancel(self, ids: Sequence[str], *, pending_only: bool = False) -> None:
        """End jobs in good order; those that ended before are no error.

        Args:
            ids: Of jobs, or of whole submissions.
            pending_only: Leave those alone that have started.
        """

    @abc.abstractmethod
    def limits(self) -> Limits:
        """What it takes."""

    @abc.abstractmethod
    def output(self, job: str) -> str:
        """Where the output of a job is, in words."""
