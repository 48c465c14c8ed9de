"""The adapter for Dask: every chunk is a task pinned to a worker, so that it is known where it ran.

The engine's own retries are off; what a worker has taken along when it died is decided here.
"""

from __future__ import annotations

import logging
import pickle
from collections import deque
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from distributed import KilledWorker, get_worker
from distributed.utils import sync

from hypernodes._engine.clusters import worker as _worker
from hypernodes._engine.clusters.briefs import DRIVER, Attempt
from hypernodes._engine.clusters.cluster import Cluster
from hypernodes._engine.clusters.lifeline import disconnected
from hypernodes._engine.threads import DaemonThreads
from hypernodes.exceptions import HyperNodesError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from hypernodes._engine.clusters.briefs import Report, Result
    from hypernodes._engine.clusters.cluster import Listener, Order
    from hypernodes._engine.clusters.fitness import Fitness
    from hypernodes._engine.clusters.lifeline import Lifeline
    from hypernodes._engine.clusters.needs import Needs

COST: Final = 0.002
SCATTERED: Final = 1 << 20
"""Bytes from which on something is moved by workers among themselves, and not by the scheduler."""
GPU: Final = {"num_gpus": "GPU"}
TOPIC: Final = "hypernodes"
EVERYONE: Final = "all"
IS_DAEMON: Final = "__import__('multiprocessing').current_process().daemon"
_logger: Final = logging.getLogger("hypernodes.clusters")


class DaskCluster(Cluster):
    """A Dask cluster.

    Args:
        client: Leads to it; nobody else uses it.
        lifeline: Watches over it.
        fitness: Which workers can be used; None where all can.
        closing: What to call in the end, one after another.
        settles: Whether its workers are ours, on this machine.
        kill: Ends a worker by its name.
    """

    cost = COST

    def __init__(
        self,
        client: Any,
        lifeline: Lifeline,
        fitness: Fitness | None,
        *,
        closing: Iterable[Callable[[], None]],
        settles: bool = False,
        kill: Callable[[Any], None] | None = None,
    ) -> None:
        self.settles = settles
        self._client = client
        self._lifeline = lifeline
        self._fitness = fitness
        self._kill = kill
        self._closing = tuple(closing)
        self._workers: dict[str, Any] = {}
        self._unfit: set[str] = set()
        self._reports: dict[int, Any] = {}
        self._results: dict[int, Any] = {}
        self._scattered: dict[int, Any] = {}
        self._done: deque[int] = deque()
        self._listener: Listener
        self._calls = DaemonThreads(4, "hypernodes-dask")

    def open(self, listener: Listener) -> None:
        self._listener = listener
        self._client.subscribe_topic(EVERYONE, self._on_event)
        self._client.subscribe_topic(_topic(), self._on_announcement)
        listener.later(self._look_around)
        self._lifeline.watch(listener, self._workers.__len__)

    @property
    def is_over(self) -> bool:
        return self._lifeline.is_over or not self._workers

    def explained(self, error: BaseException) -> BaseException:
        return self._lifeline.lost or error

    # ------------------------------------------------------------ who is there

    def _look_around(self) -> None:
        found = self._client.scheduler_info(n_workers=-1)["workers"]
        for address in self._workers.keys() - found.keys():
            del self._workers[address]
            self._listener.left(address)
        for address in found.keys() - self._workers.keys() - self._unfit:
            if self._fitness is None or address in self._fitness:
                self._workers[address] = found[address]
                self._listener.joined(address, found[address]["nthreads"])
            else:
                self._calls.submit(self._check, address)

    def _check(self, address: str) -> None:
        """See whether a worker that has joined can be used."""
        assert self._fitness is not None  # noqa: S101 - else nobody is checked
        try:
            self._fitness.check([address])
        except HyperNodesError as error:
            self._unfit.add(address)
            _logger.warning("%s; it is left out", error)
        except Exception:  # noqa: BLE001 - it is gone, and that is told elsewhere
            return
        else:
            self._listener.later(self._look_around)

    def _on_event(self, event: Any) -> None:
        _, facts = event
        action = facts.get("action")
        if action == "add-worker":
            self._listener.later(self._look_around)
        elif action == "remove-worker":
            self._listener.left(facts["worker"])
            self._listener.later(partial(self._workers.pop, facts["worker"], None))

    def _on_announcement(self, event: Any) -> None:
        self._listener.announced(Attempt(*pickle.loads(event[1])))  # noqa: S301 - our own worker's

    def lacking(self, needs: Needs) -> str | None:
        if any(self.suits(place, needs) for place in tuple(self._workers)):
            return None
        alone = (name for name, amount in needs if not self._has(((name, amount),)))
        return next(alone, needs[0][0])

    def _has(self, needs: Needs) -> bool:
        return any(self.suits(place, needs) for place in tuple(self._workers))

    def suits(self, place: str, needs: Needs) -> bool:
        facts = self._workers.get(place)
        return facts is not None and all(_fits(facts, name, amount) for name, amount in needs)

    # ------------------------------------------------------------ chunks

    def submit(self, order: Order) -> None:
        brief, number = order.brief, order.brief.number
        luggage = None if order.is_known else order.luggage
        shared = None
        if luggage is not None and luggage.size >= SCATTERED:
            shared, luggage = self._shared(brief.token, luggage), None
        data: Any = pickle.dumps((brief, luggage), 5)
        if len(data) >= SCATTERED:
            (data,) = self._client.scatter([data], workers=[order.place], hash=False)
        taken = [self._results[reference.kept.number] for reference in order.references]
        options = {
            "workers": [order.place],
            "pure": False,
            "retries": 0,
            "resources": _abstract(order.needs),
        }
        key = f"hypernodes-{DRIVER}-{number}"
        run = _run if brief.keeps else _run_and_report
        task = self._client.submit(run, data, shared, *taken, key=key, **options)
        if brief.keeps:
            self._results[number] = task
            task = self._client.submit(_report_of, task, key=f"{key}-report", **options)
        self._reports[number] = task
        task.add_done_callback(partial(self._on_done, number))

    def _shared(self, token: int, luggage: Any) -> Any:
        if token not in self._scattered:
            (self._scattered[token],) = self._client.scatter([luggage], hash=False)
        return self._scattered[token]

    def _on_done(self, number: int, _: Any) -> None:
        self._done.append(number)
        self._listener.later(self._collect)

    def _collect(self) -> None:
        """Fetch the reports of all tasks that are done."""
        finished: dict[int, Any] = {}
        while self._done:
            number = self._done.popleft()
            task = self._reports.pop(number, None)
            if task is None:
                continue
            if task.status == "finished":
                finished[number] = task
            else:
                self._on_unfinished(number, task)
        for number, found in self._gathered(finished).items():
            self._report(number, *found)

    def _gathered(self, finished: dict[int, Any]) -> dict[int, Any]:
        try:
            return dict(zip(finished, self._client.gather(list(finished.values())), strict=True))
        except Exception:  # noqa: BLE001 - of one of them: its worker has died, which will be told
            if len(finished) <= 1:
                return {}
        found = [self._gathered({number: task}) for number, task in finished.items()]
        return {number: report for part in found for number, report in part.items()}

    def _report(self, number: int, report: Report, slots: tuple[int, ...]) -> None:
        if slots:
            self._listener.kept(number, slots)
        else:
            self._results.pop(number, None)
        self._listener.reported(number, report)

    def _on_unfinished(self, number: int, task: Any) -> None:
        self._results.pop(number, None)
        if task.status != "error":
            if self._client.status != "running":
                self._listener.broken(disconnected("the connection to the Dask scheduler was lost"))
                return
            self._scattered.clear()  # some of it was lost with a worker
            self._listener.mislaid(number)
            return
        error = task.exception()
        if not isinstance(error, KilledWorker):  # else it is told that the worker has left
            self._listener.broken(_unfit(error))

    def look(self, place: str, numbers: Collection[int], *, back: bool, void: bool) -> None:
        self._calls.submit(self._look, place, list(numbers), back=back, void=void)

    def _look(self, place: str, numbers: list[int], *, back: bool, void: bool) -> None:
        try:
            found = self._client.run(
                _worker.look, DRIVER, numbers, back=back, void=void, workers=[place]
            )
            for number, report in found[place].items():
                self._listener.reported(number, report)
        except Exception:  # noqa: BLE001 - it is gone, and that is told elsewhere
            return
        finally:
            self._listener.looked(numbers)

    def release(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            self._results.pop(number, None)

    def forget(self, tokens: Collection[int]) -> None:
        for token in tokens:
            self._scattered.pop(token, None)

    def bears(self) -> bool:
        found = self._client.run(eval, IS_DAEMON, on_error="return")
        return True not in found.values()

    def kill(self, place: str) -> None:
        if self._kill is not None and place in self._workers:
            self._kill(self._workers[place]["name"])

    def close(self) -> None:
        self._lifeline.stop()
        self._reports.clear()
        self._results.clear()
        self._scattered.clear()
        for topic in (EVERYONE, _topic()):
            with suppress(Exception):  # the connection may be gone
                self._client.unsubscribe_topic(topic)
        for close in self._closing:
            with suppress(Exception):  # the others are to be closed, too
                close()
        self._calls.shutdown(wait=False)


def _topic() -> str:
    return f"{TOPIC}-{DRIVER}"


def _fits(facts: Any, name: str, amount: float) -> bool:
    if name == "num_cpus":
        return bool(facts["nthreads"] >= amount)
    if name == "memory":
        return not facts["memory_limit"] or bool(facts["memory_limit"] >= amount)
    return bool(facts["resources"].get(GPU.get(name, name), 0) >= amount)


def _abstract(needs: Needs) -> dict[str, float] | None:
    """Return what Dask itself keeps account of: the resources that workers were started with."""
    own = {"num_cpus", "memory"}
    return {GPU.get(name, name): amount for name, amount in needs if name not in own} or None


def _unfit(error: Any) -> HyperNodesError:
    found = HyperNodesError(
        f"a Dask worker cannot run tasks of hypernodes ({type(error).__name__}: {error}); it needs "
        f"the same version of hypernodes, cloudpickle and Python as this process"
    )
    found.__cause__ = error
    return found


# ---------------------------------------------------------------- in the worker


def _run(data: bytes, shared: Any, *taken: Result) -> Result:
    brief, luggage = pickle.loads(data)  # noqa: S301 - our own driver's
    values = [result.kept[slot] for slot, result in zip(brief.places, taken, strict=True)]
    return _worker.work(
        brief, luggage or shared, values, partial(_announce, get_worker(), brief.driver)
    )


def _run_and_report(data: bytes, shared: Any, *taken: Result) -> tuple[Report, tuple[int, ...]]:
    return _run(data, shared, *taken).report, ()


def _report_of(result: Result) -> tuple[Report, tuple[int, ...]]:
    return result.report, tuple(result.kept)


def _announce(worker: Any, driver: str, attempt: Attempt) -> None:
    """Tell the driver, by way of the scheduler; return when the scheduler has it."""
    message = pickle.dumps(tuple(attempt))
    sync(worker.loop, worker.scheduler.log_event, topic=f"{TOPIC}-{driver}", msg=message)
