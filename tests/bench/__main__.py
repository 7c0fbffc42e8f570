"""The benchmarks, each beside a floor that is measured in the same run.

make bench                          all of them
make bench ARGS='stop --quick'      those whose names contain a word, less exactly
make bench ARGS='idle --trace'      and where the memory was allocated
make bench ARGS='--json FILE'       every sample too
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import trio

from tests.bench.catalog import BENCHMARKS
from tests.bench.measure import FULL, QUICK
from tests.bench.report import Figure, machine, print_table


def main() -> None:
    """Run the benchmarks that the command line names."""
    options = _parser().parse_args()
    effort = replace(QUICK if options.quick else FULL, trace=options.trace)
    begun = machine()
    figures: list[Figure] = []
    for name in _chosen(options.names):
        print(f"{name} ...", file=sys.stderr, flush=True)
        figures += trio.run(BENCHMARKS[name], effort)
    print("{python}, {system}, {cores} cores, load at the start {load}".format_map(begun))
    print_table(figures)
    if options.json is not None:
        found = {"machine": begun, "figures": [figure.as_json() for figure in figures]}
        options.json.write_text(json.dumps(found, indent=2))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("names", nargs="*", help=f"words out of: {', '.join(BENCHMARKS)}")
    parser.add_argument("--quick", action="store_true", help="smaller, and fewer repetitions")
    parser.add_argument("--trace", action="store_true", help="trace memory (in `idle`)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples there")
    return parser


def _chosen(words: list[str]) -> list[str]:
    chosen = [name for name in BENCHMARKS if not words or any(word in name for word in words)]
    if not chosen:
        sys.exit(f"no benchmark is named like that; there are: {', '.join(BENCHMARKS)}")
    return chosen


if __name__ == "__main__":
    main()
