"""The log of the classic API: ``from picas.picaslogger import picaslogger``.

Scripts count on its lines being seen, so this one logger has a handler of its own, which writes to
standard error; where logging is configured to show lines on the terminal, it leaves them to that.
"""

import logging
import sys

picaslogger = logging.getLogger("PiCaS")
"""Shows lines from INFO on; ``picaslogger.setLevel`` changes that."""


class _Seen(logging.Handler):
    """Writes to standard error, as it is at that moment, what the root logger does not show."""

    def emit(self, record: logging.LogRecord) -> None:
        if sys.stderr is None or (picaslogger.propagate and _shown_by_root(record)):
            return
        try:
            print(self.format(record), file=sys.stderr, flush=True)
        except Exception:  # noqa: BLE001 - as every handler: told by logging, not raised
            self.handleError(record)


def _shown_by_root(record: logging.LogRecord) -> bool:
    """Tell whether the root logger puts a record on the terminal (rich's handler has a console)."""
    terminals = (sys.stdout, sys.stderr)
    return any(
        handler.level <= record.levelno
        and (getattr(handler, "stream", None) in terminals or hasattr(handler, "console"))
        for handler in logging.getLogger().handlers
    )


if not picaslogger.handlers:
    _handler = _Seen()
    _handler.setFormatter(logging.Formatter("%(asctime)s - %(name)s - %(levelname)s - %(message)s"))
    picaslogger.addHandler(_handler)
    picaslogger.setLevel(logging.INFO)
