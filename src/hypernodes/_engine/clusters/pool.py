"""The pool of a cluster: one thread that hands chunks to places and deals with whatever happens.

All state belongs to that thread; others leave letters. What is engine's own, is in its `Cluster`.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final

from hypernodes._engine.clusters.allotment import Allotment
from hypernodes._engine.clusters.briefs import DRIVER, Brief, Luggage
from hypernodes._engine.clusters.cluster import Order
from hypernodes._engine.clusters.keepsakes import Keepsakes
from hypernodes._engine.clusters.needs import NOTHING, check_needs
from hypernodes._engine.clusters.places import Place
from hypernodes._engine.clusters.underway import UnderWay, is_charged
from hypernodes._engine.shipping.crew import Dispatcher
from hypernodes._engine.shipping.keeping import Kept, copyable, keepable
from hypernodes._engine.shipping.pace import HIDES, LONGEST, Pace
from hypernodes._engine.shipping.sources import SegmentSource
from hypernodes._engine.workers import closed_error
from hypernodes.exceptions import ResourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from hypernodes._engine.clusters.briefs import Attempt, Report
    from hypernodes._engine.clusters.cluster import Cluster
    from hypernodes._engine.clusters.needs import Needs
    from hypernodes._engine.clusters.places import Flight
    from hypernodes._engine.kernel import PipelineExecutionEngine
    from hypernodes._engine.shipping.chunk import Chunk
    from hypernodes._engine.shipping.sources import Source

SCARCE: Final = 60.0
"""Seconds for which a run waits for a worker with resources that have left with another."""


class ClusterPool(Dispatcher):
    """Chunks as tasks of a cluster.

    Args:
        cluster: Runs them; the pool closes it in the end.
        chunksize: How many items a chunk has; None for what fits.
    """

    def __init__(self, cluster: Cluster, *, chunksize: int | None) -> None:
        super().__init__(cluster.packer, Pace(chunksize, HIDES * cluster.cost))
        self._cluster = cluster
        self.ground = cluster.ground
        self.patience = LONGEST
        self._kept = Keepsakes(cluster.release, self.later)
        self._allotment = Allotment(cluster, self._kept)
        self._places, self._sources = self._allotment.places, self._allotment.sources
        self._flights = UnderWay(self._allotment)
        self._mail: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._stranded_at: float | None = None
        self._closing = False
        self._closed = False
        self._retired = False
        self._pid = os.getpid()
        self._opened = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="hypernodes-cluster", daemon=True)
        self._thread.start()
        cluster.open(self)
        self.later(self._opened.set)
        self._opened.wait()
        atexit.register(self.close)

    # ------------------------------------------------------------ for other threads

    @property
    def size(self) -> int:
        return self._allotment.size

    @property
    def is_over(self) -> bool:
        return self._closing or self._closed or self._cluster.is_over

    @property
    def is_busy(self) -> bool:
        """Whether there is anything to do."""
        return bool(self._sources or self._flights)

    def check(self, engine: PipelineExecutionEngine) -> None:
        """Refuse a plan that nobody could run.

        Raises:
            ResourceError: A node asks for what no worker has.
        """
        check_needs(engine, self._cluster.lacking)

    def offer(self, source: Source) -> None:
        self.later(partial(self._add, source))
        if self._closed:  # perhaps after the last letter was read
            source.stop(closed_error())

    def drop(self, source: Source) -> None:
        self.later(partial(self._remove, source))

    def adopted(self, given: Any) -> Any:
        if type(given) is not dict:
            return given
        kept = (slot for slot, value in given.items() if type(value) is Kept)
        return given | {slot: self._kept.refer(given[slot]) for slot in kept}

    def close(self) -> None:
        if os.getpid() != self._pid or self._closed:
            return
        self.later(self._begin_close)
        self._thread.join()
        atexit.unregister(self.close)

    def retire(self) -> None:
        self._retired = True
        self.later(lambda: None)
        if self._closed:
            self.part()

    def later(self, call: Callable[[], None]) -> None:
        """Have a call made in the pool's thread."""
        self._mail.put(call)

    # ------------------------------------------------------------ what the cluster tells

    def reported(self, number: int, report: Report) -> None:
        """Hear how far a chunk has come."""
        self.later(partial(self._take_report, number, report))

    def looked(self, numbers: Iterable[int]) -> None:
        """Hear that chunks have told how far they are, if they could."""
        self.later(partial(self._take_looks, numbers))

    def crashed(self, number: int) -> None:
        """Hear that a chunk has lost its worker while it ran, and nobody else has."""
        self.later(partial(self._on_crash, number))

    def mislaid(self, number: int) -> None:
        """Hear that a chunk did not run, because what it needs was lost; it goes back."""
        self.later(partial(self._on_mislaid, number))

    def announced(self, attempt: Attempt) -> None:
        """Hear of an attempt that is about to be made."""
        self.later(partial(self._on_announced, attempt))

    def joined(self, place: str, capacity: int, needs: Needs = NOTHING) -> None:
        """Hear of a place that is there now, perhaps for certain needs only."""
        self.later(partial(self._on_joined, place, capacity, needs))

    def left(self, place: str) -> None:
        """Hear of a place that is gone, with all that it had."""
        self.later(partial(self._on_left, place))

    def vanished(self, numbers: Collection[int]) -> None:
        """Hear that values are gone that chunks have left."""
        self.later(partial(self._lose, numbers))

    def broken(self, error: BaseException) -> None:
        """Hear that the cluster cannot be reached any more."""
        self.later(partial(self._on_broken, error))

    # ------------------------------------------------------------ the pool's loop

    def _serve(self) -> None:
        try:
            while not (self._closing or (self._retired and not self.is_busy)):
                self._read_mail(self._timeout())
                self._tick()
                self._hand_out()
        except BaseException as error:  # noqa: BLE001 - nobody may wait for ever
            self._stop_all(self._cluster.explained(error))
        finally:
            self._closed = True
            self._clear_up()
            if self._retired:
                self._part_retired()

    def _part_retired(self) -> None:
        atexit.unregister(self.close)
        self.part()

    def _read_mail(self, timeout: float | None) -> None:
        with suppress(Empty):
            self._mail.get(timeout=timeout)()
            while True:
                self._mail.get_nowait()()

    def _timeout(self) -> float | None:
        now = time.monotonic()
        dues = (source.due for source in self._sources)
        waits = [due - now for due in dues if due is not None and due > now]
        waits += [p.stock.due - now for p in self._places.values() if p.stock.due is not None]
        waits += [due - now for due in self._flights.dues()]
        if self._stranded_at is not None:
            waits.append(self._stranded_at + SCARCE - now)
        return max(0.001, min(waits)) if waits else None

    def _end_stranded(self, now: float) -> None:
        """End runs that wait for resources which have left with their workers."""
        stranded = self._allotment.stranded()
        if not stranded:
            self._stranded_at = None
        elif self._stranded_at is None:
            self._stranded_at = now
        elif now - self._stranded_at >= SCARCE:
            for source in stranded:
                try:
                    self.check(source.engine)
                except ResourceError as error:
                    source.stop(error)

    def _tick(self) -> None:
        now = time.monotonic()
        self._end_stranded(now)
        for place in (*self._flights.doomed(now), *self._flights.stuck(now)):
            self._cluster.kill(place.name)
        over: dict[tuple[int, ...], list[str]] = {}
        for place in self._places.values():
            if place.stock.due is not None and now >= place.stock.due:
                over.setdefault(place.stock.over(), []).append(place.name)
        for tokens, places in over.items():
            self._cluster.forget(places, tokens)
        for place, numbers, back in self._flights.unseen(now):
            self._cluster.look(place.name, numbers, back=back, void=False)

    # ------------------------------------------------------------ letters of runs

    def _add(self, source: Source) -> None:
        if self._closing:
            source.stop(closed_error())
        elif not source.closed and source not in self._sources:
            self._sources.append(source)

    def _remove(self, source: Source) -> None:
        if source in self._sources:
            self._sources.remove(source)
        for place, numbers in self._flights.doom(source).items():
            self._cluster.look(place.name, numbers, back=True, void=True)
        self._kept.drop(source)
        tokens = source.token, source.careful_token
        for place in self._places.values():
            place.stock.end(tokens)
        self._cluster.unshare(tokens)

    def _begin_close(self) -> None:
        self._closing = True
        self._stop_all(closed_error())

    def _stop_all(self, error: BaseException) -> None:
        flying = [flight.chunk.source for flight in self._flights]
        flying += [chunk.source for chunk in self._allotment.parked]
        for source in dict.fromkeys((*self._sources, *flying)):
            if not source.closed:
                source.closed = True
                source.stop(error)
        self._sources.clear()

    def _clear_up(self) -> None:
        while not self._mail.empty():
            with suppress(Exception):  # nobody may wait for ever because another's letter is bad
                self._mail.get_nowait()()
        self._stop_all(closed_error())
        with suppress(Exception):  # whatever state it is in, it is not ours any more
            self._cluster.close()

    # ------------------------------------------------------------ handing out

    def _hand_out(self) -> None:
        """Give chunks to places: to idle ones first, then behind what is soon done."""
        for parked in self._allotment.unparked():
            self._give(parked, None)
        while self._sources:
            place = self._allotment.candidate()
            if place is None or not (place.has_room or self._allotment.may_wait()):
                return
            chunk = self._allotment.draw(place)
            if chunk is None:
                return
            self._give(chunk, place)

    def _give(self, chunk: Chunk, place: Place | None) -> None:
        """Send a chunk to a place, or to a better one; park it where there is none."""
        source = chunk.source
        if any(reference.lost for reference in chunk.references.values()):
            source.miss(chunk)
            return
        needs = self._allotment.needs_of(source, chunk.entries[0])
        if place is None or needs or chunk.references:
            place = self._allotment.best(chunk, place, needs)
        source.flying += 1
        if place is None:
            self._allotment.parked.append(chunk)
            return
        flight = self._flights.begin(chunk, place, place.over())
        luggage = Luggage(source.shipment.settings, *source.shipment.parcels)
        known, references = chunk.token in place.stock, tuple(chunk.references.values())
        place.stock.send(chunk.token, luggage.size)
        brief = self._brief(flight)
        self._cluster.submit(Order(brief, place.name, luggage, known, references, needs))

    def _brief(self, flight: Flight) -> Brief:
        chunk = flight.chunk
        source, trouble = chunk.source, chunk.trouble
        return Brief(
            DRIVER,
            flight.number,
            chunk.token,
            chunk.parcel,
            tuple(chunk.references),
            tuple(trouble.spent.items()) if trouble else (),
            careful=trouble is not None,
            keeps=isinstance(source, SegmentSource) and _may_keep(source, chunk.entries[0].number),
            settles=self._cluster.settles,
            over=flight.over,
        )

    # ------------------------------------------------------------ news of chunks

    def _take_report(self, number: int, report: Report) -> None:
        flight = self._flights.get(number)
        if flight is None:
            return
        chunk = flight.chunk
        if report.trouble:
            self._on_trouble(flight, report)
            return
        if report.parts or report.done is not None:
            flight.place.stock.arrive(chunk.token)
        for notice in report.notices:
            chunk.source.notify(*notice)
        flight.early.update({part.number: part for part in report.parts})
        flight.receive()
        if report.back is not None:
            back = chunk.entries[report.back :]
            chunk.entries = chunk.entries[: report.back]
            chunk.source.put_back(chunk, back)
        if report.done is not None:
            flight.end = report
        self._land_if_over(flight)

    def _take_looks(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            flight = self._flights.get(number)
            if flight is not None:
                flight.looking = False
                flight.receive()
                self._land_if_over(flight)

    def _land_if_over(self, flight: Flight) -> None:
        refused = not flight.chunk.entries
        if not (flight.is_over or refused):
            return
        chunk = flight.chunk
        self._land(flight)
        if flight.end is not None and not refused:
            chunk.source.learn(chunk, flight.end.seconds)
            chunk.source.put_back(chunk, chunk.entries[chunk.received :])

    def _on_trouble(self, flight: Flight, report: Report) -> None:
        """Deal with a chunk that could not begin."""
        chunk = flight.chunk
        self._land(flight)
        flight.place.stock.lack(chunk.token)
        if report.trouble == "stale":
            self.renewed |= frozenset(report.strangers)
            self._retire(flight.place)
        if chunk.source.closed:
            return
        if report.error is None:
            chunk.source.put_back(chunk, chunk.entries)
        elif report.trouble == "unloadable":
            chunk.source.unloadable(report.error)
        else:
            chunk.source.unreadable(chunk, report.error)

    def _retire(self, place: Place) -> None:
        """End a worker that has older code than a new one would have."""
        place.is_retired = True
        if place.is_empty and self._places.get(place.name) is place:
            self._cluster.kill(place.name)

    def _land(self, flight: Flight) -> None:
        self._flights.land(flight)
        if flight.end is None:  # perhaps nobody has read it
            flight.place.stock.tell_again(flight.over)
        if flight.place.is_retired:
            self._retire(flight.place)

    def _on_announced(self, attempt: Attempt) -> None:
        flight = self._flights.get(attempt.number)
        if flight is not None:
            flight.learn(attempt)

    # ------------------------------------------------------------ places that come and go

    def _on_joined(self, name: str, capacity: int, needs: Needs) -> None:
        self._allotment.add(Place(name, capacity, needs))

    def _on_left(self, name: str) -> None:
        place = self._places.pop(name, None)
        if place is None:
            return
        flights, running = list(place.flights.values()), self._flights.running_at(place)
        for flight in flights:
            self._land(flight)
        charged = is_charged(running)
        for flight in flights:
            if flight in running:
                self._bury(flight, charged=charged)
            else:
                chunk = flight.chunk
                chunk.source.put_back(chunk, chunk.entries[chunk.received :])
        if not self._cluster.values_outlive:
            self._lose(self._kept.at(name))

    def _on_crash(self, number: int) -> None:
        flight = self._flights.get(number)
        if flight is not None:
            self._land(flight)
            self._bury(flight, charged=is_charged([flight]))

    def _on_mislaid(self, number: int) -> None:
        flight = self._flights.get(number)
        if flight is None:
            return
        chunk = flight.chunk
        self._land(flight)
        if any(reference.lost for reference in chunk.references.values()):
            chunk.source.miss(chunk)
        else:
            chunk.source.put_back(chunk, chunk.entries[chunk.received :])

    @staticmethod
    def _bury(flight: Flight, *, charged: bool) -> None:
        """Decide about a chunk that ran, as far as known, when its worker died.

        Args:
            flight: The chunk.
            charged: Whether that counts as a crash of each piece; else of none.
        """
        chunk = flight.chunk
        source = chunk.source
        if source.closed or chunk.received >= len(chunk.entries):
            return
        if chunk.trouble is not None and not flight.begun:
            # It would have announced that it is read: what it shares with others came before that.
            source.bury_fruitless(flight.sent_at)
            source.put_back(chunk, chunk.entries)
        elif len(chunk.entries) == 1 and charged:
            source.bury(chunk, chunk.entries[0], flight.cause)
        else:
            source.suspect(chunk, flight.ran, flight.death, charged=charged)

    def _lose(self, gone: Collection[int]) -> None:
        """Take note that what chunks have left is gone, and take back what waits for it.

        What has what it needs already runs on.
        """
        self._kept.lose(gone)
        for flight in self._flights.lacking():
            flight.looking = True
            self._cluster.look(flight.place.name, [flight.number], back=True, void=False)

    def _on_broken(self, error: BaseException) -> None:
        self._closing = True
        self._stop_all(error)

    # ------------------------------------------------------------ what stays where it was made

    def kept(self, number: int, slots: Iterable[int]) -> None:
        """Hear that a chunk has left values where it ran; before its report, in the pool's thread.

        Args:
            number: The chunk.
            slots: Which values.
        """
        flight = self._flights.get(number)
        if flight is None or flight.chunk.source.closed:
            self._cluster.release([number])
        else:
            self._kept.add(number, flight.chunk.source, flight.place.name, slots)


def _may_keep(source: SegmentSource, number: int) -> bool:
    segment = source.engine.segments[number]
    return bool(keepable(source.engine, segment) or copyable(source.engine, segment))
