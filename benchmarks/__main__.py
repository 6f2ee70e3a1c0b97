"""``make bench``: print throughput on both stores as text, and as JSON with ``--json``."""

import argparse
import json
from dataclasses import asdict

from benchmarks.throughput import measure


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--sizes", default="1000,10000,100000", help="done tokens in the pool")
    parser.add_argument("--tokens", type=int, default=4000, help="no-op tokens a measurement")
    parser.add_argument("--json", action="store_true", help="print JSON lines")
    options = parser.parse_args()
    sizes = sorted(int(size) for size in options.sizes.split(","))
    if not options.json:
        print(f"{'store':16}{'work':>10}{'in pool':>10}{'tokens/s':>10}{'limit/s':>10}{'ratio':>7}")
    for row in measure(sizes, options.tokens):
        if options.json:
            print(json.dumps(asdict(row) | {"ratio": row.ratio}), flush=True)
        else:
            print(
                f"{row.store:16}{row.work:>10}{row.size:>10,}{row.rate:>10,.0f}"
                f"{row.limit:>10,.0f}{row.ratio:>7.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
