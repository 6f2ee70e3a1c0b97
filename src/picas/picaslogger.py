"""The log of the classic API: ``from picas.picaslogger import picaslogger``.

Scripts count on its lines being seen, so this one logger has a handler of its own, which writes to
standard error. A program that configures logging itself takes it away with
``picaslogger.handlers.clear()``.
"""

import logging

picaslogger = logging.getLogger("PiCaS")
"""Shows lines from INFO on; ``picaslogger.setLevel`` changes that."""

if not picaslogger.handlers:
    _handler = logging.StreamHandler()
    _handler.setFormatter(logging.Formatter("%(asctime)s - %(name)s - %(levelname)s - %(message)s"))
    picaslogger.addHandler(_handler)
    picaslogger.setLevel(logging.INFO)
    # Its handler has shown the line: that of the root logger would show it once more.
    picaslogger.propagate = False
