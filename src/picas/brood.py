"""The processes that a piece of Python code starts, of whom nobody else keeps account."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from picas.proctree import MARK, Mark, Process, Tree


class Brood(Tree):
    """The descendants of this process that are younger than the brood, and what carries its mark.

    The mark tells those that lost their parents.
    """

    def __init__(self) -> None:
        self._own = Mark()
        super().__init__(self._own)
        self.leader_reaped()  # none of them leads the others

    @contextmanager
    def hatching(self) -> Iterator[None]:
        """A span in which this process's environment, and so its children's, has the mark."""
        before = os.environ.get(MARK)
        os.environ[MARK] = self._own.into(os.environ)[MARK]
        try:
            yield
        finally:
            if before is None:
                os.environ.pop(MARK, None)
            else:
                os.environ[MARK] = before
            self.close()

    def end_all(self, grace: float, hurry: Callable[[], bool]) -> None:
        """End them: TERM, some time for them to go, then KILL until none is left.

        Args:
            grace: Seconds between the two.
            hurry: True says not to grant more time.
        """

        def pause(seconds: float) -> bool:
            time.sleep(seconds)
            return hurry()

        self.end(grace, pause)

    def _belongs(self, process: Process, table: Mapping[int, Process]) -> bool:
        young = process.start >= self._own.made
        return (young and _descends(process, table)) or super()._belongs(process, table)


def _descends(process: Process, table: Mapping[int, Process]) -> bool:
    """Walk up the parents to this process."""
    current: Process | None = process
    for _ in table:
        if current is None:
            return False
        if current.parent == os.getpid():
            return True
        current = table.get(current.parent)
    return False
