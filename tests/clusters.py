"""A cluster in memory whose events come in any order that a real one's may, chosen by chance."""

from __future__ import annotations

import random
import threading
from collections import Counter, deque
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from hypernodes._engine.clusters import worker
from hypernodes._engine.clusters.briefs import DRIVER
from hypernodes._engine.clusters.cluster import Cluster
from hypernodes._engine.clusters.needs import lack_of
from hypernodes.backends import RemoteBackend
from hypernodes.exceptions import HyperNodesError
from hypernodes.executors.clustered import ClusteredExecutor

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from hypernodes._engine.clusters.briefs import Result
    from hypernodes._engine.clusters.cluster import Listener, Order
    from hypernodes._engine.clusters.needs import Lack, Needs

RUNNING = threading.local()
"""Its `site` is the worker whose node runs in this thread, if any."""


SIZES: list[int] = []
"""How many bytes chunks have had."""

CALLS: Counter[int] = Counter()
"""How often nodes were called, by what with."""


def called(x: int) -> int:
    """Count a call; return how many there were with this."""
    CALLS[x] += 1
    return CALLS[x]


class Died(BaseException):
    """Ends what runs in a worker that dies; nobody hears of it."""


def die() -> None:
    """Have the worker die that runs this node."""
    RUNNING.site.die()


def break_down() -> None:
    """Have the pool hear that the cluster is gone."""
    error = HyperNodesError("the cluster is gone")
    RUNNING.site.chaos.listener.broken(error)


def glance() -> None:
    """Have what asks how far chunks are be answered, perhaps, while a node runs."""
    site = getattr(RUNNING, "site", None)
    if site is not None:
        site.chaos.glance()


def gaze() -> None:
    """Have what the pool has to ask be asked, and answered, perhaps, while a node runs."""
    site = getattr(RUNNING, "site", None)
    if site is not None:
        site.chaos.settle()
        site.chaos.glance()


class Site:
    """A worker: what it has to do, and what it keeps."""

    def __init__(self, chaos: Chaos, name: str, capacity: int, facts: Any) -> None:
        self.chaos = chaos
        self.name = name
        self.capacity = capacity
        self.facts = facts
        self.alive = True
        self.queue: deque[Order] = deque()
        self.kept: dict[int, Any] = {}

    def die(self) -> None:
        self.alive = False
        raise Died


class Chaos(Cluster):
    """A cluster whose next event is drawn from all that could be next.

    Nodes run in its thread, one after another.

    Args:
        seed: Of the draws.
        capacities: How many chunks each worker runs at once.
        deaths: How many workers die by themselves, at any moment.
        resources: What the first worker has that the others have not.
    """

    cost = 0.0

    def __init__(
        self,
        seed: int,
        capacities: tuple[int, ...] = (1, 1),
        deaths: int = 0,
        resources: Collection[str] = (),
    ) -> None:
        self.random = random.Random(seed)
        self.deaths = deaths
        self.resources = resources
        self.sites: dict[str, Site] = {}
        self.births = 0
        self._capacities = capacities
        self._events: list[partial[None]] = []
        self._busy = threading.Condition()
        self._over = False
        self._thread = threading.Thread(target=self._happen, name="chaos", daemon=True)

    # ------------------------------------------------------------ the contract

    def open(self, listener: Listener) -> None:
        self.listener = listener
        for place, capacity in enumerate(self._capacities):
            self._join(capacity, self.resources if place == 0 else ())
        self._thread.start()

    def submit(self, order: Order) -> None:
        site = self.sites.get(order.place)
        if site is None or not site.alive:
            return  # it is told, or will be, that it is gone
        site.queue.append(order)
        SIZES.append(order.brief.parcel.size)
        self._wake()

    def look(self, place: str, numbers: Collection[int], *, back: bool, void: bool) -> None:
        self._add(partial(self._looked, place, list(numbers), back, void))

    def release(self, numbers: Iterable[int]) -> None:
        for site in self.sites.values():
            for number in numbers:
                site.kept.pop(number, None)

    def forget(self, places: Collection[str], tokens: Collection[int]) -> None:
        worker.forget(DRIVER, tokens)

    def lacking(self, needs: Needs) -> Lack | None:
        return lack_of(needs, [dict.fromkeys(self.resources, 1)])

    def suits(self, place: str, needs: Needs) -> bool:
        site = self.sites.get(place)
        return site is not None and all(name in site.facts for name, _ in needs)

    def kill(self, place: str) -> None:
        self._add(partial(self._kill, place))

    def close(self) -> None:
        self._over = True
        self._wake()

    # ------------------------------------------------------------ chance

    def _add(self, event: partial[None]) -> None:
        with self._busy:
            self._events.append(event)
            self._busy.notify_all()

    def _wake(self) -> None:
        with self._busy:
            self._busy.notify_all()

    def _happen(self) -> None:
        while not self._over:
            event = self._drawn()
            if event is not None:
                event()
                self.settle()

    def settle(self) -> None:
        """Wait until the pool has dealt with all that it has heard."""
        for _ in range(2):
            heard = threading.Event()
            self.listener.later(heard.set)
            while not (heard.wait(0.05) or self._over):
                pass

    def _drawn(self) -> Callable[[], None] | None:
        with self._busy:
            possible: list[Any] = [(self._events.remove, event) for event in self._events]
            ready = [site for site in self.sites.values() if site.alive and site.queue]
            possible += [(lambda _: None, partial(self._run, site)) for site in ready]
            if not possible:
                self._busy.wait()
                return None
            if self.deaths and self.random.random() < 0.2:
                site = self.random.choice([s for s in self.sites.values() if s.alive] or [None])
                if site is not None:
                    self.deaths -= 1
                    return partial(self._kill, site.name)
            take, event = self.random.choice(possible)
            take(event)
            return event

    def glance(self) -> None:
        with self._busy:
            looks = [event for event in self._events if event.func == self._looked]
            looks = [event for event in looks if self.random.random() < 0.5]
            for event in looks:
                self._events.remove(event)
        for event in looks:
            event()

    # ------------------------------------------------------------ events

    def _join(self, capacity: int, facts: Any) -> None:
        self.births += 1
        site = Site(self, f"site-{self.births}", capacity, facts)
        self.sites[site.name] = site
        self.listener.joined(site.name, capacity)

    def _kill(self, place: str) -> None:
        site = self.sites.get(place)
        if site is not None and site.alive:
            site.alive = False
            self._bury(site)

    def _bury(self, site: Site) -> None:
        self._add(partial(self._leave, site))
        self._add(partial(self._join, site.capacity, site.facts))

    def _leave(self, site: Site) -> None:
        del self.sites[site.name]
        self.listener.left(site.name)

    def _run(self, site: Site) -> None:
        """Run one of the first chunks of a worker."""
        first = list(site.queue)[: site.capacity]
        order = self.random.choice(first)
        taken: list[Any] = []
        for slot, reference in zip(order.brief.places, order.references, strict=True):
            home = next((s for s in self.sites.values() if reference.kept.number in s.kept), None)
            if home is None or not home.alive:
                return  # it waits for what is lost
            taken.append(home.kept[reference.kept.number][slot])
        luggage = None if order.is_known else order.luggage
        RUNNING.site = site
        try:
            result = worker.work(order.brief, luggage, taken, self.listener.announced)
        finally:
            del RUNNING.site
        if not site.alive:
            self._bury(site)
            return
        site.queue.remove(order)
        if result.kept:
            site.kept[order.brief.number] = result.kept
        self._add(partial(self._report, site, order.brief.number, result))

    def _report(self, site: Site, number: int, result: Result) -> None:
        if not site.alive:
            return
        if result.kept:
            slots = tuple(result.kept)
            self.listener.later(partial(self.listener.kept, number, slots))
        self.listener.reported(number, result.report)

    def _looked(self, place: str, numbers: list[int], back: bool, void: bool) -> None:
        site = self.sites.get(place)
        found = {}
        if site is not None and site.alive:
            found = worker.look(DRIVER, numbers, back=back, void=void)
        for number, report in found.items():
            if report.back == 0:
                for order in [o for o in site.queue if o.brief.number == number]:
                    site.queue.remove(order)
        if self.random.random() < 0.5:
            self._answer(numbers, found)
        else:
            self._add(partial(self._answer, numbers, found))

    def _answer(self, numbers: list[int], found: dict[int, Any]) -> None:
        for number, report in found.items():
            self.listener.reported(number, report)
        self.listener.looked(numbers)


class ChaosExecutor(ClusteredExecutor):
    """Runs on a cluster in memory.

    Attributes:
        seed: See `Chaos`, as the others.
    """

    seed: int
    capacities: tuple[int, ...] = (1, 1)
    deaths: int = 0
    resources: tuple[str, ...] = ()
    chunksize: int | None = None

    def open_cluster(self, options: dict[str, Any]) -> Cluster:
        del options
        return Chaos(self.seed, self.capacities, self.deaths, self.resources)


class ChaosBackend(RemoteBackend):
    """Sends whole pipelines to a cluster in memory.

    Attributes:
        seed: See `Chaos`, as the others.
    """

    kind: Literal["dask"] = "dask"
    address: str = "tcp://127.0.0.1:9"
    seed: int = 0
    capacities: tuple[int, ...] = (1, 1)
    deaths: int = 0

    def _cluster(self, options: dict[str, Any]) -> Cluster:
        del options
        return Chaos(self.seed, self.capacities, self.deaths)
