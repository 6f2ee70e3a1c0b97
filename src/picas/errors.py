"""Every error PiCaS raises on purpose.

::

    PicasError
    ├── ConfigError              the configuration or a secret cannot be used
    ├── InputError               what the user gave cannot become tokens
    │   └── ConditionError       a view's condition cannot be understood
    ├── TaskError                a command could not be started or its log not be written here
    └── PoolError                the pool did not do what was asked
        ├── PoolUnreachable      no answer: it may or may not have been done
        ├── ServerError          the server failed (5xx)
        ├── Unauthorized         wrong or missing credentials (401)
        ├── Forbidden            not allowed for this user (403)
        ├── NotFound             no such thing (404)
        │   ├── PoolMissing      the database does not exist
        │   ├── ViewMissing      the view does not exist
        │   └── TokenMissing     no token with that id
        ├── Conflict             the document was changed in between (409)
        ├── TooLarge             a document or request over the server's limit (413)
        ├── Refused              the server found the request bad (other 4xx)
        └── Unsupported          this store cannot do that

A library's own error is kept as ``__cause__``. A message says what happened, to what, and what
to do about it; it never holds a secret.
"""


class PicasError(Exception):
    """Any error that PiCaS raises on purpose; its text is meant for a person."""


class ConfigError(PicasError):
    """The configuration, an option or a secret cannot be used."""


class InputError(PicasError):
    """What the user gave (a file, a line, a field) cannot become tokens."""


class ConditionError(InputError):
    """A view's condition cannot be understood; the text points at the place."""


class TaskError(PicasError):
    """A task could not be started here, or its logs could not be written to the disk."""


class PoolError(PicasError):
    """The pool did not do what was asked of it."""


class PoolUnreachable(PoolError):
    """No answer came: what was asked may or may not have been done."""


class ServerError(PoolError):
    """The server itself failed (status 5xx); trying again later may help."""


class Unauthorized(PoolError):
    """User name or password are wrong or missing (401)."""


class Forbidden(PoolError):
    """This user may not do that (403)."""


class NotFound(PoolError):
    """What was asked for does not exist (404)."""


class PoolMissing(NotFound):
    """The database does not exist."""


class ViewMissing(NotFound):
    """The view does not exist; the text names those that do."""


class TokenMissing(NotFound):
    """No token (or attachment) of that name."""


class Conflict(PoolError):
    """The document was changed since it was read (409)."""


class TooLarge(PoolError):
    """A document or a request is larger than the server takes (413)."""


class Refused(PoolError):
    """The server found the request bad (any other 4xx)."""


class Unsupported(PoolError):
    """This store cannot do that; the text says which can."""
