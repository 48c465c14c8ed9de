"""The tables of `docs/scaling.md`, simulated: a billion items on a thousand workers."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from benchmarks.scaling import rules
from benchmarks.scaling.costs import (
    BARE_DRIVER,
    BARE_SCHEDULER,
    DASK,
    FIND,
    RAY,
    STORE,
    TELL_ITEMS,
    TELL_NODES,
)
from benchmarks.scaling.parts import Work
from benchmarks.scaling.simulation import Simulation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from benchmarks.scaling.parts import Costs, Outcome

ITEMS: Final = 10**9
WORKERS: Final = 1_000
SAMPLE: Final = 20_000
LARGE_SAMPLE: Final = 50_000
MOST: Final = 1_000_000
STEADY: Final = 10.0
"""Seconds of work that a sample has at least for each worker, up to `MOST` items."""
HOUR, DAY = 3600.0, 86400.0
HOST: Final = 32
"""How many workers a host has that is lost as a whole."""


class Table(NamedTuple):
    """Rows of text."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]

    def text(self) -> str:
        """Return it in Markdown."""
        lines = [self.columns, ("---",) * len(self.columns), *self.rows]
        return "\n".join((self.title, "", *(f"| {' | '.join(line)} |" for line in lines), ""))


def simulated(
    work: Work,
    workers: int = WORKERS,
    costs: Costs = DASK,
    *,
    least: int = SAMPLE,
    known: bool = True,
) -> Outcome:
    """Simulate so many items of a map that beginning and end do not matter."""
    steady = min(int(STEADY * workers / work.seconds), MOST)
    sample = replace(work, items=max(least, steady), known=known)
    return Simulation(sample, workers, costs).run()


def working(work: Work, found: Outcome, workers: int = WORKERS) -> str:
    """Return which part of their time workers work, in the middle of a run."""
    mean = work.seconds + work.slow_share * work.slow_seconds
    return percent(found.rate * mean * (1 - work.found) / workers)


def in_time(seconds: float) -> str:
    """Return a duration in words."""
    for unit, name in ((DAY, "days"), (HOUR, "h"), (60.0, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds:.3g} s"


def percent(share: float) -> str:
    """Return a part of a whole."""
    return f"{share:.1%}" if share < 0.1 else f"{min(share, 1.0):.0%}"


def facts(work: Work, found: Outcome) -> tuple[str, ...]:
    """Return what most tables say of a run."""
    return (
        f"{found.rate:,.0f}",
        f"{found.ran / max(1, found.chunks):.3g}",
        percent(found.driver),
        percent(found.scheduler),
        working(work, found),
        in_time(found.projected(work.items)),
    )


FACTS: Final = ("items a second", "items a chunk", "driver", "scheduler", "workers", "10^9 items")


def by_duration(costs: Costs = DASK, name: str = "Dask") -> Table:
    """Return what becomes of items of all durations."""
    rows = []
    for seconds in (0.001, 0.01, 0.1, 1.0, 2.0, 10.0):
        work = Work(items=ITEMS, seconds=seconds)
        ideal = in_time(ITEMS * seconds / WORKERS)
        rows.append((f"{seconds:g} s", *facts(work, simulated(work, costs=costs)), ideal))
    columns = ("an item", *FACTS, "if all workers worked")
    return Table(f"By the duration of an item, on {name}", columns, rows)


def by_workers(costs: Costs = DASK, name: str = "Dask") -> Table:
    """Return from how many workers on they have nothing to do."""
    rows = []
    for workers in (10, 100, 300, 1_000):
        cells = []
        for seconds in (0.01, 0.1, 1.0, 10.0):
            work = Work(items=ITEMS, seconds=seconds)
            cells.append(working(work, simulated(work, workers, costs), workers))
        rows.append((f"{workers:,}", *cells))
    return Table(f"What workers are busy, by their number, on {name}", ("workers", *SECONDS), rows)


SECONDS: Final = ("items of 10 ms", "of 100 ms", "of 1 s", "of 10 s")


def by_remedy() -> Table:
    """Return what lifts the limit for items of 10 ms, without a change of the library."""
    short, inner = 0.01, 1_000
    outer = Work(items=ITEMS // inner, seconds=inner * short)
    plain = Remedy(Work(items=ITEMS, seconds=short))
    host = Work(items=ITEMS // 10_000, seconds=10_000 * short / HOST)
    cases: dict[str, Remedy] = {
        "as it is, on Dask": plain,
        "on Ray": plain._replace(costs=RAY),
        "from a generator": plain._replace(known=False),
        "`chunksize=500`": plain._replace(work=replace(plain.work, chunksize=500)),
        "10 drivers, each with 100 workers and a scheduler": plain._replace(
            workers=WORKERS // 10, drivers=10
        ),
        f"{inner:,} items in a nested map": Remedy(outer, inner=inner),
        f"10,000 items, mapped on a host with {HOST} workers": Remedy(
            host, WORKERS // HOST, inner=10_000
        ),
    }
    return _remedies("What lifts it", cases, short)


def by_change() -> Table:
    """Return what changes of the library would do for items of 10 ms."""
    short = 0.01
    plain = Remedy(Work(items=ITEMS, seconds=short))
    generator = plain._replace(known=False)
    seldom = replace(DASK, fresh=WORKERS * 0.008)
    bare = replace(seldom, driver_chunk=BARE_DRIVER, scheduler_chunk=BARE_SCHEDULER)
    long = replace(plain.work, chunksize=200)
    cases = {
        "a range, as it is": plain,
        "a generator, as it is": generator,
        "a generator, patience of 4 s": generator._replace(costs=replace(DASK, patience=4.0)),
        "looks every 8 s": plain._replace(costs=seldom),
        "chunks of 2 s": plain._replace(work=long),
        "both of these": plain._replace(work=long, costs=seldom),
        "looks every 8 s, a chunk as cheap as a bare task": plain._replace(costs=bare),
        "all three": plain._replace(work=long, costs=bare),
    }
    return _remedies("What changes of the library would do", cases, short)


def _remedies(title: str, cases: Mapping[str, Remedy], seconds: float) -> Table:
    rows = [(name, *remedy.facts(seconds)) for name, remedy in cases.items()]
    columns = (f"items of {seconds * 1000:g} ms", "items a second", "driver", "scheduler")
    return Table(title, (*columns, "workers", "10^9 items"), rows)


class Remedy(NamedTuple):
    """A way to run a map.

    Attributes:
        work: What a driver has to do.
        workers: How many it has.
        costs: What it costs.
        drivers: How many drivers there are.
        inner: How many items are in one that the driver sees.
        known: Whether their number is known beforehand.
    """

    work: Work
    workers: int = WORKERS
    costs: Costs = DASK
    drivers: int = 1
    inner: int = 1
    known: bool = True

    def facts(self, seconds: float) -> tuple[str, ...]:
        """Return what the table says of it, for items that take so long."""
        least = SAMPLE * (self.work.chunksize or 1)
        facts = self.work, self.workers, self.costs
        found = simulated(*facts, least=least, known=self.known)
        rate = found.rate * self.drivers * self.inner
        lasts = in_time(found.projected(self.work.items // self.drivers))
        busy = percent(found.driver), percent(found.scheduler), percent(rate * seconds / WORKERS)
        return f"{rate:,.0f}", *busy, lasts


def by_order() -> Table:
    """Return what slow items do to a consumer that wants results in order, and to others."""
    rows = []
    for share, slow in ((0.0, 0.0), (1e-4, 60.0), (1e-3, 60.0), (1e-4, 600.0)):
        cells = []
        for ordered in (True, False):
            work = Work(
                items=ITEMS, seconds=2.0, slow_share=share, slow_seconds=slow, ordered=ordered
            )
            cells.append(working(work, simulated(work, least=LARGE_SAMPLE, known=False)))
        what = f"1 in {1 / share:,.0f} takes {slow:g} s more" if share else "none is slow"
        rows.append((what, *cells))
    columns = ("items of 2 s, of a generator", "in order", "as they finish")
    return Table("What workers are busy beside slow items", columns, rows)


def by_lifetime() -> Table:
    """Return what it costs that workers die."""
    rows = []
    for name, lifetime, seconds in (("1 day", DAY, 60.0), ("1 h", HOUR, 2.0), ("1 h", HOUR, 60.0)):
        work = Work(items=LARGE_SAMPLE, seconds=seconds, spread=0.5, known=True)
        found = Simulation(work, WORKERS, DASK, lifetime=lifetime).run()
        lost = f"{ITEMS * seconds / lifetime:,.0f}"
        again = f"{found.again / max(1, found.lost):.2g}"
        failed = f"{found.failed / found.ran * ITEMS:,.0f}"
        rows.append((name, in_time(seconds), lost, again, failed))
    lives = (
        "a worker lives",
        "an item",
        "workers lost in 10^9 items",
        "items again, each",
        "failed",
    )
    return Table("What it costs that workers die", lives, rows)


def by_cache() -> Table:
    """Return what looking up in the driver, and storing in workers, does to the rate."""
    rows = []
    trip = 0.0005
    for name, find, store in (
        ("none", 0.0, 0.0),
        ("a disk", FIND, STORE),
        ("0.5 ms away", FIND + trip, STORE + 2 * trip),
    ):
        for found in (0.0, 0.9, 1.0) if find else (0.0,):
            work = Work(items=ITEMS, seconds=0.1, find=find, store=store, found=found)
            got = simulated(work, least=8 * rules.farthest(WORKERS) if found else SAMPLE)
            rate, lasts = f"{got.rate:,.0f}", in_time(got.projected(ITEMS))
            rows.append((name, f"{found:.0%}", rate, percent(got.driver), lasts))
    columns = ("cache", "found", "items a second", "driver", "10^9 items")
    return Table("Items of 100 ms, with a cache", columns, rows)


def by_events() -> Table:
    """Return what events do to the rate, where nothing but the driver bounds it."""
    rows = []
    for name, tell in (
        ("nobody", 0.0),
        ("ends of items", TELL_ITEMS),
        ("starts and ends of a node", TELL_NODES),
        ("starts and ends of ten nodes", 10 * TELL_NODES),
    ):
        work = Work(items=ITEMS, seconds=0.001, tell=tell)
        got = simulated(work)
        rows.append((name, f"{got.rate:,.0f}", in_time(got.projected(ITEMS))))
    columns = ("observed", "items a second", "10^9 items")
    return Table("Items of 1 ms, observed", columns, rows)


def by_end() -> Table:
    """Return how much longer a map takes than its work, for the end."""
    rows = []
    for spread, share, slow in ((0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, 1e-4, 60.0)):
        cells = []
        for items in (10_000, 100_000):
            work = Work(
                items=items,
                seconds=2.0,
                spread=spread,
                slow_share=share,
                slow_seconds=slow,
                ordered=False,
                known=True,
            )
            least = (work.seconds + share * slow) * items / WORKERS
            found = Simulation(work, WORKERS, DASK).run()
            cells.append(f"{found.seconds - least:.3g} s of {found.seconds:.3g} s")
        what = "all alike" if not (spread or share) else ""
        what = what or (
            "as different as they are long" if spread else "1 in 10,000 takes 60 s more"
        )
        rows.append((what, *cells))
    columns = ("items of 2 s", "10,000 items", "100,000 items")
    return Table("What comes on top, at the beginning and the end", columns, rows)


def by_beginning() -> Table:
    """Return how many items a first chunk has, and how long it takes."""
    rows = []
    for items in (10_000, 100_000, ITEMS):
        at_hand = rules.first_ahead(WORKERS, known=items)
        count = rules.new_pace(None, DASK.hides).count(min(items, at_hand), WORKERS)
        lasts = (in_time(count * seconds) for seconds in (0.01, 1.0, 10.0))
        name = f"{items:,}" if items < ITEMS else "10^9"
        rows.append((name, str(count), *lasts))
    columns = ("items of a map", "in a first chunk", "which takes, of 10 ms", "of 1 s", "of 10 s")
    return Table("What a worker gets first, on Dask", columns, rows)


def host_lost() -> Table:
    """Return what becomes of a map when a host is lost."""
    rows = []
    work = Work(items=100_000, seconds=2.0, known=True)
    plain = Simulation(work, WORKERS, DASK).run()
    for lost in (1, HOST, 10 * HOST):
        deaths = [(20.0, index) for index in range(lost)]
        found = Simulation(work, WORKERS, DASK, deaths=deaths).run()
        more = found.seconds - plain.seconds
        rows.append((str(lost), str(found.again), str(found.failed), f"{more:.2g} s"))
    columns = ("workers lost at once", "items again", "failed", "longer by")
    return Table("A host is lost", columns, rows)


TABLES: Final[Sequence[Callable[[], Table]]] = (
    by_duration,
    partial(by_duration, RAY, "Ray"),
    by_workers,
    partial(by_workers, RAY, "Ray"),
    by_remedy,
    by_change,
    by_order,
    by_end,
    by_beginning,
    by_lifetime,
    host_lost,
    by_cache,
    by_events,
)


def tables() -> Iterator[Table]:
    """Simulate one table after another."""
    for make in TABLES:
        yield make()
