"""The pool: tokens in one database, and what can be done with them."""

from picas.pool.base import Candidates, Changes, Query, Rows, Store, Written
from picas.pool.connect import connect
from picas.pool.exchange import Wish
from picas.pool.pool import Pool
from picas.pool.push import Pushed, PushState
from picas.pool.reap import Reaped
from picas.pool.settings import PoolSettings
from picas.pool.settle import Settlement, Verdict

__all__ = [
    "Candidates",
    "Changes",
    "Pool",
    "PoolSettings",
    "PushState",
    "Pushed",
    "Query",
    "Reaped",
    "Rows",
    "Settlement",
    "Store",
    "Verdict",
    "Wish",
    "Written",
    "connect",
]
