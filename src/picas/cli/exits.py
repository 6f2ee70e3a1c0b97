"""How ``picas`` ends: one status a kind of failure (docs/reference/exit-statuses.md)."""

import signal

from picas import errors

OK = 0
FAILED = 1
"""What was asked for is not so: a check of ``doctor``, a no, output that cannot be written."""
USAGE = 2
"""Wrong options, input or configuration."""
UNREACHABLE = 3
"""The pool did not answer, or its server failed."""
DENIED = 4
"""Wrong password, or not allowed."""
NOT_FOUND = 5
"""No such pool, view, token or attachment."""
REFUSED = 6
"""The pool did not take something: too large, in conflict with what is there, not supported."""
HOST = 7
"""This host could not run tasks, or results are not recorded: lost, or kept on disk."""
INTERRUPTED = 128 + signal.SIGINT
"""Ctrl-C."""
PIPE_CLOSED = 128 + signal.SIGPIPE
"""The reader of the output went away."""

_BY_ERROR: tuple[tuple[type[errors.PicasError], int], ...] = (
    (errors.ConfigError, USAGE),
    (errors.InputError, USAGE),
    (errors.PoolUnreachable, UNREACHABLE),
    (errors.ServerError, UNREACHABLE),
    (errors.Unauthorized, DENIED),
    (errors.Forbidden, DENIED),
    (errors.NotFound, NOT_FOUND),
    (errors.PoolError, REFUSED),
    (errors.TaskError, HOST),
)


def status_of(error: errors.PicasError) -> int:
    """The exit status that an error ends the command with."""
    return next((status for kind, status in _BY_ERROR if isinstance(error, kind)), FAILED)
