"""``make soak``: real pilots under faults from a seed; status 1 if a promise is not kept."""

import argparse
import contextlib
import json
import secrets
import sys
from collections.abc import Iterator, Sequence
from dataclasses import fields

from tests.couchdb.server import real_server

from soak import report
from soak.plan import make_plan
from soak.round import LEASE_SECONDS, Figures, Order, run_round

STORES = ("sqlite", "couchdb")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the rounds and print what came out."""
    options = _options(arguments)
    orders = list(_orders(options))
    if options.dry_run:
        for order in orders:
            print(f"seed {order.seed}, {order.store}")
            for step in make_plan(order.seed, order.store, order.seconds, LEASE_SECONDS):
                print(f"  {step}")
        return 0
    rounds = []
    with contextlib.ExitStack() as stack:
        server = None
        if any(order.store == "couchdb" for order in orders):
            server = real_server()
            if server is None:
                print("LEFT OUT BY NAME: CouchDB (none is installed)", file=sys.stderr)
                orders = [order for order in orders if order.store != "couchdb"]
            else:
                stack.enter_context(server)
        for order in orders:
            figures = run_round(order, server)
            rounds.append(figures)
            _show(figures, as_json=options.json)
    if not options.json:
        print("\n".join(report.total(rounds)))
    return 1 if any(figures.violations for figures in rounds) else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m soak", description=__doc__)
    parser.add_argument("--store", choices=[*STORES, "both"], default="both")
    parser.add_argument("--seeds", type=int, default=4, help="rounds, on the stores in turn")
    parser.add_argument("--seed", type=int, help="the first seed; drawn if not given")
    parser.add_argument("--tokens", type=int, default=2500, help="tokens a round")
    parser.add_argument("--pilots", type=int, default=6, help="pilots at a time")
    parser.add_argument("--seconds", type=float, default=25.0, help="time of faults a round")
    parser.add_argument("--json", action="store_true", help="print JSON lines")
    parser.add_argument("--keep", action="store_true", help="keep the folders of the rounds")
    parser.add_argument("--dry-run", action="store_true", help="print the plans of faults only")
    return parser.parse_args(arguments)


def _orders(options: argparse.Namespace) -> Iterator[Order]:
    stores = STORES if options.store == "both" else (options.store,)
    first = secrets.randbelow(1_000_000) if options.seed is None else options.seed
    for number in range(options.seeds):
        yield Order(
            stores[number % len(stores)],
            first + number,
            options.tokens,
            options.pilots,
            options.seconds,
            options.keep,
        )


def _show(figures: Figures, *, as_json: bool) -> None:
    if as_json:
        facts = {field.name: getattr(figures, field.name) for field in fields(figures)}
        facts["violations"] = [str(violation) for violation in figures.violations]
        print(json.dumps(facts), flush=True)
    else:
        print("\n".join(report.lines(figures)), flush=True)


if __name__ == "__main__":
    sys.exit(main())
