"""A billion items on a thousand workers: `python -m benchmarks.scaling [measure | validate]`.

Without a word, it simulates and prints the tables of `docs/scaling.md`. `measure` measures what
the simulation takes for granted; `validate` runs some maps and simulates the same.
"""

from __future__ import annotations

import argparse


def main() -> None:
    """Print tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("what", nargs="?", choices=PARTS, default="tables")
    PARTS[parser.parse_args().what]()


def simulate() -> None:
    """Print what is simulated."""
    from benchmarks.scaling.tables import tables

    for table in tables():
        print(table.text(), flush=True)


def measure() -> None:
    """Print what is measured."""
    from benchmarks.scaling.measure import figures

    for figure in figures():
        print(
            f"| {figure.name} | {figure.value:.3g} {figure.unit} |".replace("  ", " "), flush=True
        )


def validate() -> None:
    """Print what is run and simulated."""
    from benchmarks.scaling.validation import verdicts

    print("| items | workers | ran | simulated | off | chunks | simulated |")
    for case, seconds, chunks, simulated, simulated_chunks in verdicts():
        off = f"{simulated / seconds - 1:+.0%}"
        cells = (
            f"{case.items:,} x {case.name}",
            str(case.workers),
            f"{seconds:.2f} s",
            f"{simulated:.2f} s",
            off,
            f"{chunks:,}",
            f"{simulated_chunks:,}",
        )
        print(f"| {' | '.join(cells)} |", flush=True)


PARTS = {"tables": simulate, "measure": measure, "validate": validate}

if __name__ == "__main__":
    main()
