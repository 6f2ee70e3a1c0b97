"""How a token of the classic API ends: what its fields are after its actor's code has run."""

import time
from typing import Any

from picas import javascript, token
from picas.errors import TaskError
from picas.token import TIME_LIMIT_EXIT_CODE


class TokenTimeout(TaskError):
    """A token reached its time limit: raised inside ``process_task``.

    Attributes:
        seconds: The limit.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(f"Token execution exceeded timeout limit of {seconds:g} seconds")
        self.seconds = seconds


def is_stop(problem: BaseException | None) -> bool:
    """Tell whether the code was interrupted, which is no failure of the token.

    ``sys.exit(3)`` is one: else every pilot that takes the token would end by it.
    """
    if problem is None or isinstance(problem, Exception):
        return False
    return not isinstance(problem, SystemExit) or problem.code in (None, 0)


def end(task: Any, problem: BaseException | None, late: TokenTimeout | None) -> str:
    """Close a token, unless it was given back by the code.

    Args:
        task: The token.
        problem: What the code raised.
        late: The time limit that was reached, also where the code has swallowed that.

    Returns:
        How it ended, in a line.
    """
    if late is not None and (problem is late or (problem is None and _is_open(task.value))):
        _failed(task, late, TIME_LIMIT_EXIT_CODE)
        return f"time limit of {late.seconds:g} s"
    if problem is not None:
        code = problem.code if isinstance(problem, SystemExit) else 1
        _failed(task, problem, code if isinstance(code, int) else 1)
        return f"{type(problem).__name__}: {problem}"
    _completed(task)
    return f"exit code {task['exit_code']}"


def _is_open(doc: token.Document) -> bool:
    return token.is_locked(doc) and _code(doc) is None


def _code(doc: token.Document) -> int | None:
    """The exit code that the code has set, be it as a text: views read that as a number, too."""
    code = doc.get("exit_code")
    if isinstance(code, int):
        return code
    number = javascript.parse_int(code)
    return int(number) if number == number else None  # NaN is not itself


def _completed(task: Any) -> None:
    """What a token is after ``process_task`` returned."""
    doc = task.value
    if token.is_locked(doc):
        doc["done"] = int(time.time())
    code = _code(doc)
    if code is None and doc.get("done"):
        code = 1 if doc.get("lock") == 99 else 0
    doc["exit_code"] = doc.get("exit_code", "") if code is None else code


def _failed(task: Any, problem: BaseException, exit_code: int) -> None:
    """What a token is after ``process_task`` raised."""
    what = f"Exception {type(problem)} occurred during processing: {problem}"
    task.error(str(problem) if isinstance(problem, TokenTimeout) else what, exception=problem)
    if exit_code == TIME_LIMIT_EXIT_CODE or not _code(task.value):
        task["exit_code"] = exit_code
