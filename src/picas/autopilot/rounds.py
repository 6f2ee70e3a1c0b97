"""One round of the autopilot: look, decide, act; what it did is told in one line each."""

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from picas import figures
from picas.autopilot import look, plan
from picas.autopilot.config import Config, Kind
from picas.autopilot.ledger import HOUR, LEASE_SECONDS, Busy, Heard, Ledger, kind_of
from picas.autopilot.look import Crew, Work
from picas.errors import ConfigError, TaskError
from picas.jobid import recorded_job
from picas.pilot.lease import LeaseTimes
from picas.pool import Pool
from picas.schedulers import Batch, Job, JobState, Scheduler
from picas.schedulers.base import NAME
from picas.token import Document

log = logging.getLogger("picas.run.autopilot")


@dataclass(slots=True)
class Site:
    """A cluster as the autopilot uses it.

    Attributes:
        scheduler: Its scheduler.
        picas: What starts ``picas`` there.
        pool: How pilots there reach the pool.
        ask_every: Seconds between two listings of its jobs, at least.
        asked: When it was asked last, by the monotonic clock.
    """

    scheduler: Scheduler
    picas: str
    pool: str
    ask_every: float
    asked: float = field(default=float("-inf"))


@dataclass(slots=True)
class _Post:
    """A kind of pilots in a round.

    Attributes:
        kind: The kind.
        ledger: Its submissions.
        crew: Its pilots that run.
    """

    kind: Kind
    ledger: Ledger
    crew: Sequence[Document] = ()


class Autopilot:
    """Looks after the pilots of a pool, a round at a time.

    All that it has to remember is in the pool and in the schedulers.

    Args:
        pool: The pool.
        config: The kinds of pilots.
        sites: The clusters, by name.
        act: Whether to do what is decided; else it is only told.
        every: Seconds between two rounds.
    """

    def __init__(
        self,
        pool: Pool,
        config: Config,
        sites: Mapping[str, Site],
        *,
        act: bool = True,
        every: float = 0.0,
    ) -> None:
        self._pool, self._config, self._sites, self._act = pool, config, sites, act
        self._times = LeaseTimes.of(pool.settings(lenient=True))
        self._lease = max(LEASE_SECONDS, 3 * every)
        self._crew = Crew(pool)
        self._said: dict[str, str] = {}

    def round(self) -> None:
        """Look, decide and act, once.

        Raises:
            PoolError: The pool did not answer, or refused.
            ConfigError: Pilots cannot be submitted from here.
        """
        posts = self._posts()
        now = self._pool.now()
        self._crew.look()  # before the schedulers are asked: what they say is later than this
        answers = self._ask(posts, now)
        dead = self._dead(answers)
        self._reap(dead)
        heard = self._crew.heard(dead)
        for post in posts:
            post.ledger.saw(answers.get(post.kind.cluster), heard, now)
            post.crew = [
                doc
                for doc in self._crew.running
                if kind_of(doc.get("submission")) == post.kind.name and doc["_id"] not in dead
            ]
        promised: dict[str, float] = {}
        for post in posts:
            try:
                self._look_after(post, heard, promised)
            except Busy as who:
                self._say_busy(post.kind, who)

    def leave(self) -> None:
        """Let other autopilots act."""
        for kind in self._config.kinds if self._act else ():
            ledger = Ledger.read(self._pool, kind.name)
            if ledger.is_mine():
                with suppress(Busy):
                    ledger.leave()

    # --- looking -------------------------------------------------------------------------------

    def _posts(self) -> list[_Post]:
        """The kinds of pilots that no other autopilot looks after."""
        posts = []
        for kind in self._config.kinds:
            try:
                seconds = self._lease if self._act else None
                posts.append(_Post(kind, Ledger.take(self._pool, kind.name, seconds)))
            except Busy as who:
                self._say_busy(kind, who)
        return posts

    def _ask(self, posts: Sequence[_Post], now: float) -> dict[str, list[Job]]:
        """The schedulers' answers, by cluster; only of those that may tell what the pool cannot."""
        heard = self._crew.heard()
        answers = {}
        for name, site in self._sites.items():
            of_it = [post for post in posts if post.kind.cluster == name]
            kinds = {post.kind.name for post in of_it}
            unsure = any(post.ledger.pending(heard) for post in of_it) or any(
                kind_of(doc.get("submission")) in kinds and self._is_silent(doc, now)
                for doc in self._crew.running
            )
            if unsure and time.monotonic() >= site.asked + site.ask_every:
                site.asked = time.monotonic()
                try:
                    answers[name] = site.scheduler.jobs(f"{NAME}-")
                except TaskError as error:
                    log.warning("%s: %s; nothing is taken to be gone", name, error)
        return answers

    def _is_silent(self, doc: Document, now: float) -> bool:
        return now - figures.number(doc, "heartbeat") > 1.5 * self._times.heartbeat

    def _dead(self, answers: Mapping[str, Sequence[Job]]) -> dict[str, str]:
        """Pilots whose job has ended by the scheduler's word, and what that was."""
        dead = {}
        clusters = {kind.name: kind.cluster for kind in self._config.kinds}
        newest = self._crew.heard()
        for doc in self._crew.running:
            name, job_id = doc.get("submission"), str(recorded_job(doc))
            jobs = answers.get(clusters.get(kind_of(name), ""), ())
            job = next((j for j in jobs if j.id == job_id and j.name == f"{NAME}-{name}"), None)
            if job is None:
                continue
            started = newest.get(str(name), {}).get(job_id, 0.0)
            # A job runs one pilot: what is older is of a run before it was requeued.
            requeued = job.state is JobState.PENDING or figures.number(doc, "started") < started
            if job.state is JobState.ENDED or requeued:
                dead[doc["_id"]] = "requeued" if requeued else job.reason
        return dead

    def _reap(self, dead: Mapping[str, str]) -> None:
        """Give back at once what these pilots held."""
        if not dead:
            return
        names = ", ".join(f"{figures.pilot_name(i)} ({why})" for i, why in sorted(dead.items()))
        if not self._act:
            log.info("the jobs of these pilots have ended: %s", names)
            return
        reaped = self._pool.reap(self._times.lease, dead=dead)
        if reaped.pilots:
            tokens = reaped.tokens + reaped.errors
            log.warning(
                "the jobs of these pilots have ended: %s; tokens given back: %d",
                names,
                tokens,
                extra={"pilots": list(reaped.pilots), "tokens": tokens},
            )

    # --- deciding and acting -------------------------------------------------------------------

    def _look_after(
        self, post: _Post, heard: Mapping[str, Heard], promised: dict[str, float]
    ) -> None:
        """Decide about one kind of pilots, and act.

        Args:
            post: The kind.
            heard: Whose pilots were heard of.
            promised: By view, the tokens that pilots take on which other kinds wait for; in place.
        """
        kind, ledger = post.kind, post.ledger
        work = Work.of(self._pool, kind)
        now = self._figures(post, work, heard, promised.get(kind.view, 0.0))
        decision = plan.decide(kind, now)
        each = plan.tokens_of(now.at_once, now.token_seconds, kind.work_per_pilot)
        coming = (now.pending + decision.submit) * each
        promised[kind.view] = promised.get(kind.view, 0.0) + coming
        facts = {"submit": decision.submit, "cancel": decision.cancel}
        standing = {name: getattr(now, name) for name in ("waiting", "running", "pending")}
        self._say(kind, decision.reason, **facts, **standing)
        if not self._act:
            return
        if decision.cancel:
            self._cancel(post)
        if decision.submit:
            self._submit(post, decision)
        ledger.save()

    def _figures(
        self, post: _Post, work: Work, heard: Mapping[str, Heard], promised: float
    ) -> plan.Figures:
        kind, ledger, moment = post.kind, post.ledger, self._pool.now()
        output = self._sites[kind.cluster].scheduler.output
        # Kinds share a view where several clusters serve it: others' pilots take tokens, too.
        return plan.Figures(
            waiting=work.waiting,
            unfit=work.unfit,
            taken=promised + look.taken(kind, self._crew.running, work),
            running=len(post.crew),
            pending=ledger.pending(heard),
            in_vain=sum(s.pending(heard.get(s.name, {})) for s in ledger.in_vain()),
            hour=ledger.submitted_since(moment - HOUR),
            token_seconds=work.token_seconds,
            at_once=look.at_once(kind, post.crew, work),
            failed=ledger.failed,
            held=max(0.0, ledger.failed_at + plan.hold(ledger.failed) - moment),
            output=output(ledger.failed_job) if ledger.failed_job else "",
        )

    def _cancel(self, post: _Post) -> None:
        """Cancel what waits in vain, as far as it is known how the scheduler calls it."""
        doomed = [s for s in post.ledger.in_vain() if s.jobs or s.waits]
        ids = sorted({job for s in doomed for job in (s.waits or s.jobs)})
        for submission in doomed:
            submission.cancelled = True
        post.ledger.save()
        try:
            self._sites[post.kind.cluster].scheduler.cancel(ids, pending_only=True)
        except TaskError as error:
            log.warning("%s: not cancelled: %s", post.kind.name, error)
            for submission in doomed:
                submission.cancelled = False

    def _submit(self, post: _Post, decision: plan.Decision) -> None:
        """Submit pilots: what is intended is in the pool before."""
        kind, ledger, site = post.kind, post.ledger, self._sites[post.kind.cluster]
        number = decision.submit
        if number > 1:  # one submission, of which one answer tells whether it was made
            number = min(number, site.scheduler.limits().pilots)
        submission = ledger.intend(number, endless=decision.endless)
        ledger.renew(self._lease)
        stay = ["--endless"] if decision.endless else ["--idle", f"{kind.idle:g}s"]
        batch = Batch(
            [site.picas, "run", "--view", kind.view, *stay, *kind.run],
            {"PICAS_POOL": site.pool, "PICAS_SUBMISSION": submission.name},
            number,
            kind.shape,
            submission.job_name,
        )
        try:
            for job, _ in site.scheduler.submit(batch):
                submission.jobs.append(job)
        except ConfigError:
            ledger.withdraw(submission)
            ledger.save()
            raise
        except TaskError as error:
            submission.why = str(error)
            log.warning(
                "%s: %s; its %d pilots count as waiting until it is known", kind.name, error, number
            )
            return
        log.info(
            "%s: submitted as %s",
            kind.name,
            ", ".join(submission.jobs),
            extra={"kind": kind.name, "jobs": submission.jobs, "submission": submission.name},
        )

    def _say(self, kind: Kind, text: str, **facts: Any) -> None:
        """Tell a decision, unless it is the same as in the round before."""
        if self._said.get(kind.name) != text:
            self._said[kind.name] = text
            log.info("%s: %s", kind.name, text, extra={"kind": kind.name, **facts})

    def _say_busy(self, kind: Kind, who: Busy) -> None:
        self._say(kind, f"{who} looks after these pilots; nothing is done here")
