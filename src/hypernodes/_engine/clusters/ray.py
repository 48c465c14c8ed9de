"""The adapter for Ray: actors that run chunks, each a place with a process of its own.

Ray's own retries are off; what an actor has taken along when it died is decided here.
"""

from __future__ import annotations

import time
from collections import Counter
from contextlib import suppress
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import ray
from ray.exceptions import ActorUnschedulableError, ObjectLostError, RayActorError

from hypernodes._engine.clusters import ray_floor
from hypernodes._engine.clusters.briefs import DRIVER, Report
from hypernodes._engine.clusters.cluster import Cluster, unfit
from hypernodes._engine.clusters.ray_seats import HEAR
from hypernodes._engine.clusters.ray_watch import Watch, connection, left_by_user
from hypernodes._engine.clusters.ray_worker import PACKER as RAY_PACKER
from hypernodes._engine.clusters.versions import differing, inquiry, mismatch
from hypernodes._engine.clusters.waiting import Waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from concurrent import futures

    from hypernodes._engine.clusters.briefs import Attempt, Luggage
    from hypernodes._engine.clusters.cluster import Listener, Order
    from hypernodes._engine.clusters.needs import Lack, Needs
    from hypernodes._engine.clusters.ray_floor import Floor
    from hypernodes._engine.clusters.ray_seats import Seat
    from hypernodes.exceptions import HyperNodesError

    Nodes = Mapping[str, Mapping[str, float]]

COST: Final = 0.00075
SHARED: Final = 1 << 16
"""Bytes from which on what chunks share lies in the object store."""
MOST_STILLBORN: Final = 4
LATE: Final = 30.0
"""Seconds without any worker after which that is told."""
BRIEF: Final = 5.0
"""Seconds after which an idle worker gives back what it holds."""


NO_WORKERS: Final = (
    "a run waits for a Ray worker, and none has come up: nodes may be on their way (`ray status`), "
    "or workers cannot start; see whether the runtime_env is right, and worker-*.err, raylet.err "
    "and runtime_env_setup-*.log in the directory session_latest/logs of Ray on its nodes"
)


class RayCluster(Cluster):
    """A Ray cluster.

    Args:
        floor: Where there are seats.
        settles: Whether its workers are ours, on this machine.
        patience: After how many idle seconds workers end that hold nothing; others end sooner.
        closing: What to call in the end, one after another.
    """

    cost = COST
    packer = RAY_PACKER
    values_outlive = True

    def __init__(
        self,
        floor: Floor,
        *,
        settles: bool,
        patience: float,
        closing: Iterable[Callable[[], None]],
    ) -> None:
        self.settles = settles
        self._patience = patience
        self.ground = "ray", ray.get_runtime_context().gcs_address
        self._job = connection()
        self._floor = floor
        self._closing = tuple(closing)
        self._seats: dict[str, Seat] = {}
        self._there: set[str] = set()
        self._made: set[Needs] = set()
        self._results: dict[int, _Kept] = {}
        self._luggage: dict[int, Any] = {}
        self._stillborn = 0
        self._waiting = Waiting(LATE, NO_WORKERS)
        self._watch: Watch | None = None
        self._listener: Listener

    @property
    def is_over(self) -> bool:
        return connection() != self._job

    def explained(self, error: BaseException) -> BaseException:
        return left_by_user() if self.is_over else error

    def open(self, listener: Listener) -> None:
        self._listener = listener
        self._on_nodes(ray_floor.nodes())
        tell = lambda there: listener.later(partial(self._look_around, there))  # noqa: E731
        self._watch = Watch(tell, listener.broken)

    # ------------------------------------------------------------ who is there

    def _look_around(self, there: Nodes) -> None:
        """Take note of nodes that have come or gone, and let idle workers go."""
        if self.is_over:
            return
        self._on_nodes(there)
        self._vanish([n for n, kept in self._results.items() if kept.node not in there])
        for seat in [s for s in self._seats.values() if s.kind.node and s.kind.node not in there]:
            self._drop(seat)
        self._let_go()
        self._tell_of_absence()

    def _tell_of_absence(self) -> None:
        if self._listener.is_busy and not any(seat.is_ready for seat in self._seats.values()):
            self._waiting.goes_on()
        else:
            self._waiting.is_over()

    def _let_go(self) -> None:
        """End workers that have been idle for long, or hold what others may wait for."""
        now = time.monotonic()
        waits = any(seat.waiting and not seat.is_ready for seat in self._seats.values())
        brief = 0.0 if waits else BRIEF
        for seat in self._seats.values():
            patience = brief if seat.kind.needs else self._patience
            if seat.is_ready and seat.is_idle and now - seat.busy_at > patience:
                seat.stop()

    def _vanish(self, numbers: Collection[int]) -> None:
        if numbers:
            self._listener.vanished(numbers)
            self.release(numbers)

    def _on_nodes(self, there: Nodes) -> None:
        taken = Counter(seat.kind.node for seat in self._seats.values() if seat.kind.node)
        for seat in self._floor.seats(there, taken):
            self._add(seat)
        if there.keys() - self._there:
            kinds = Counter(seat.kind.needs for seat in self._seats.values())
            for needs in self._made:
                for seat in self._floor.special_seats(needs, taken=kinds[needs]):
                    self._add(seat)
        self._there = set(there)

    def _add(self, seat: Seat) -> None:
        self._seats[seat.name] = seat
        self._listener.joined(seat.name, 1, seat.kind.needs)

    # ------------------------------------------------------------ resources

    def lacking(self, needs: Needs) -> Lack | None:
        return self._floor.lacking(needs)

    def suits(self, place: str, needs: Needs) -> bool:
        seat = self._seats.get(place)
        return seat is not None and seat.kind.needs == (() if ray_floor.is_modest(needs) else needs)

    def provide(self, needs: Needs) -> list[str]:
        if ray_floor.is_modest(needs) or needs in self._made:
            return []
        self._made.add(needs)
        seats = self._floor.special_seats(needs, taken=0)
        self._seats.update({seat.name: seat for seat in seats})
        return [seat.name for seat in seats]

    # ------------------------------------------------------------ chunks go out

    def submit(self, order: Order) -> None:
        if self.is_over:  # asked for anything, Ray would start another one
            self._listener.broken(left_by_user())
            return
        seat = self._seats[order.place]
        if seat.actor is None:
            self._start(seat)
        if seat.is_ready:
            self._send(seat, order)
        else:
            seat.waiting[order.brief.number] = order

    def _start(self, seat: Seat) -> None:
        seat.start()
        asked = seat.ask("answer", *_question())
        self._then(asked, seat, self._on_answer, self._on_lost)

    def _on_answer(self, seat: Seat, found: tuple[str, dict[str, Any]]) -> None:
        node, there = found
        words = differing(_question()[1], there)
        if words:
            self._listener.broken(mismatch([(f"the Ray worker on node {node}", words)]))
            return
        seat.node, seat.busy_at = node, time.monotonic()
        self._stillborn = 0
        self._hear(seat, 0)
        waiting, seat.waiting = seat.waiting, {}
        for order in waiting.values():
            self._send(seat, order)

    def _send(self, seat: Seat, order: Order) -> None:
        brief, number = order.brief, order.brief.number
        if any(reference.kept.number not in self._results for reference in order.references):
            self._listener.mislaid(number)  # lost just now
            return
        is_known = order.is_known and brief.token in seat.tokens
        luggage = None if is_known else self._shared(brief.token, order.luggage)
        taken = [self._results[reference.kept.number].value for reference in order.references]
        seat.flying[number] = order
        seat.tokens.difference_update(brief.over)
        seat.tokens.add(brief.token)
        work = seat.actor.work
        if brief.keeps:
            told, value = work.options(num_returns=2).remote(brief, luggage, *taken)
            self._results[number] = _Kept(value, seat.node)
        else:
            told = work.remote(brief, luggage, *taken)
        self._then(told, seat, partial(self._on_told, number), partial(self._on_failed, number))

    def _shared(self, token: int, luggage: Luggage) -> Any:
        if luggage.size < SHARED:
            return luggage
        if token not in self._luggage:
            self._luggage[token] = ray.put(luggage)
        return self._luggage[token]

    def _then(
        self,
        called: Any,
        seat: Seat,
        take: Callable[[Seat, Any], None],
        fail: Callable[[Seat, BaseException], None],
    ) -> None:
        """Have what an actor returns taken in the pool's thread, unless it has been stopped."""
        turn = seat.turn

        def done(future: futures.Future[Any]) -> None:
            self._listener.later(partial(read, future))

        def read(future: futures.Future[Any]) -> None:
            if seat.turn != turn or self.is_over:  # the watch tells that it is
                return
            error = future.exception()
            if error is None:
                take(seat, future.result())
            else:
                fail(seat, error)

        called.future().add_done_callback(done)

    # ------------------------------------------------------------ what comes back

    def _on_told(self, number: int, seat: Seat, told: tuple[Report, tuple[int, ...]]) -> None:
        report, slots = told
        self._landed(seat, number)
        if slots:
            self._listener.kept(number, slots)
        else:
            self._results.pop(number, None)
        self._listener.reported(number, report)

    def _landed(self, seat: Seat, number: int) -> None:
        seat.flying.pop(number, None)
        seat.busy_at = time.monotonic()

    def _on_failed(self, number: int, seat: Seat, error: BaseException) -> None:
        if isinstance(error, RayActorError):
            self._on_lost(seat, error)
            return
        if isinstance(error, ObjectLostError):
            self._vanish([r.kept.number for r in seat.flying[number].references])
            self._listener.mislaid(number)
        else:
            self._listener.broken(_unfit(error))
        self._landed(seat, number)
        self._results.pop(number, None)

    def _on_lost(self, seat: Seat, error: BaseException) -> None:
        """Deal with an actor that is gone, or could not be made."""
        was_ready = seat.is_ready
        self._drop(seat)
        if isinstance(error, ActorUnschedulableError):
            return  # its node is gone; if not, the next look around finds that out
        self._add(self._floor.again(seat))
        if not was_ready:
            self._stillborn += 1
            if self._stillborn >= MOST_STILLBORN or not isinstance(error, RayActorError):
                self._listener.broken(_unfit(error))

    def _drop(self, seat: Seat) -> None:
        for number in seat.take_back(tuple(seat.waiting)):
            self._listener.mislaid(number)
        self.release(seat.flying)
        seat.stop()
        del self._seats[seat.name]
        self._listener.left(seat.name)

    def _hear(self, seat: Seat, heard: int) -> None:
        """Wait for announcements; that fails as soon as the actor is gone, though it be idle."""
        take = partial(self._on_announced, heard)
        self._then(seat.ask("hear", heard, beside=HEAR), seat, take, self._on_lost)

    def _on_announced(self, heard: int, seat: Seat, attempts: list[Attempt]) -> None:
        for attempt in attempts:
            self._listener.announced(attempt)
        self._hear(seat, heard + len(attempts))

    # ------------------------------------------------------------ while chunks run

    def look(self, place: str, numbers: Collection[int], *, back: bool, void: bool) -> None:
        seat = self._seats.get(place)
        if seat is None or self.is_over:  # that it has left is on its way
            self._listener.looked(numbers)
            return
        for number in seat.take_back(numbers) if back else ():
            self._listener.reported(number, Report(back=0))
        flying = [number for number in numbers if number in seat.flying]
        if not flying:
            self._listener.looked(numbers)
            return
        found = seat.ask("look", DRIVER, flying, {"back": back, "void": void})
        take = partial(self._on_looked, list(numbers))
        self._then(found, seat, take, self._on_lost)

    def _on_looked(self, numbers: list[int], _: Seat, found: dict[int, Report]) -> None:
        for number, report in found.items():
            self._listener.reported(number, report)
        self._listener.looked(numbers)

    def release(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            self._results.pop(number, None)

    def forget(self, places: Collection[str], tokens: Collection[int]) -> None:
        if self.is_over:
            return
        for seat in filter(None, map(self._seats.get, places)):
            if seat.is_ready:
                seat.tokens.difference_update(tokens)
                seat.ask("forget", DRIVER, list(tokens))

    def unshare(self, tokens: Collection[int]) -> None:
        for token in tokens:
            self._luggage.pop(token, None)

    def kill(self, place: str) -> None:
        seat = self._seats.get(place)
        if seat is not None and seat.actor is not None and not self.is_over:
            ray.kill(seat.actor)

    def close(self) -> None:
        self._results.clear()
        self._luggage.clear()
        if self._watch is not None and self._watch.close() and not self.is_over:
            for seat in self._seats.values():
                seat.stop()
        for close in self._closing:
            with suppress(Exception):  # the others are to be closed, too
                close()


class _Kept(NamedTuple):
    """What leads to the values that a chunk has left, and the node where they are."""

    value: Any
    node: str


@cache
def _question() -> tuple[str, dict[str, Any]]:
    """Return what workers are asked for, and what they should have."""
    question = inquiry()
    return question, eval(question)  # noqa: S307 - it is our own


def _unfit(error: BaseException) -> HyperNodesError:
    remedy = (
        "see whether its runtime_env can be set up, and whether hypernodes can be imported there"
    )
    return unfit("a Ray worker", error, remedy)
