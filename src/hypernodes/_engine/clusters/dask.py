"""The adapter for Dask: every chunk is a task pinned to a worker, so that it is known where it ran.

The engine's own retries are off; what a worker has taken along when it died is decided here.
"""

from __future__ import annotations

import asyncio
import logging
import math
import pickle
from collections import deque
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from distributed import KilledWorker
from distributed.system import MEMORY_LIMIT

from hypernodes._engine.clusters import worker as _worker
from hypernodes._engine.clusters.briefs import DRIVER, Attempt
from hypernodes._engine.clusters.cluster import Cluster, unfit
from hypernodes._engine.clusters.dask_worker import report_of, run
from hypernodes._engine.clusters.errands import Errands, insist
from hypernodes._engine.clusters.fitness import misfit, workers_of
from hypernodes._engine.clusters.needs import has, lack_of
from hypernodes._engine.threads import DaemonThreads

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from hypernodes._engine.clusters.briefs import Luggage, Report
    from hypernodes._engine.clusters.cluster import Listener, Order
    from hypernodes._engine.clusters.fitness import Fitness
    from hypernodes._engine.clusters.lifeline import Lifeline
    from hypernodes._engine.clusters.needs import Lack, Needs
    from hypernodes.exceptions import HyperNodesError

COST: Final = 0.006
"""What it takes of processor time in driver, scheduler and worker, where chunks come one by one."""
SCATTERED: Final = 1 << 20
"""Bytes from which on something is moved by workers among themselves, and not by the scheduler."""
GPU: Final = {"num_gpus": "GPU"}
PAUSES: Final = (0.05, 0.2, 1.0)
"""Seconds between attempts to move something to or from a worker that may be about to go."""
JUDGES: Final = 8
"""Workers that are asked for their versions at once; one may take its time to answer."""
SUBSCRIBED: Final = 0.5
"""Seconds within which the scheduler hears that somebody wants to know who comes and goes."""
PARTING: Final = 2.0
"""Seconds for workers to hear that nobody wants any more what they do."""
EVERYONE: Final = "all"
IS_DAEMON: Final = "__import__('multiprocessing').current_process().daemon"
_logger: Final = logging.getLogger("hypernodes.clusters")


class _Task(NamedTuple):
    """A task at a worker; its future is None while what is big is moved there."""

    place: str
    future: Any = None


class DaskCluster(Cluster):
    """A Dask cluster.

    Args:
        client: Leads to it; nobody else uses it.
        lifeline: Watches over it.
        fitness: Judges workers that join; None where all can be used.
        fit: Those that can.
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
        fit: Iterable[str] = (),
        settles: bool = False,
        kill: Callable[[Any], None] | None = None,
    ) -> None:
        self.settles = settles
        self.ground = "dask", lifeline.scheduler
        self._client = client
        self._lifeline = lifeline
        self._fitness = fitness
        # What a worker without a limit can have: of others' machines nobody knows.
        self._is_own = fitness is None
        self._memory = MEMORY_LIMIT if self._is_own else math.inf
        self._kill = kill
        self._closing = tuple(closing)
        self._workers: dict[str, Any] = {}
        self._fit: set[str] = set(fit)
        self._rejected: set[str] = set()
        self._judged: dict[str, object] = {}
        self._changes = 0
        self._reports: dict[int, _Task] = {}
        self._results: dict[int, _Task] = {}
        self._shared: dict[int, asyncio.Task[Any]] = {}
        self._has_sent = False
        self._done: deque[int] = deque()
        self._listener: Listener
        self._errands = Errands(client.loop)
        self._eyes = DaemonThreads(1, "hypernodes-dask")
        self._judges = DaemonThreads(JUDGES, "hypernodes-dask-versions")

    def open(self, listener: Listener) -> None:
        self._listener = listener
        self._look_around(0)  # before anybody can join, for whom others would look again
        self._client.subscribe_topic(EVERYONE, self._on_event)
        self._client.subscribe_topic(self._client.id, self._on_message)
        again = partial(self._listener.later, self._on_change)
        self._client.loop.add_callback(self._client.loop.call_later, SUBSCRIBED, again)
        self._lifeline.watch(listener, self._workers.__len__)

    @property
    def is_over(self) -> bool:
        return self._lifeline.is_over or not self._workers

    def explained(self, error: BaseException) -> BaseException:
        return self._lifeline.lost or error

    # ------------------------------------------------------------ who is there

    def _on_event(self, event: Any) -> None:
        _, facts = event
        action = facts.get("action")
        if action == "add-worker":
            self._listener.later(self._on_change)
        elif action == "remove-worker":
            self._listener.later(partial(self._on_gone, facts["worker"]))
            self._listener.later(self._on_change)

    def _on_change(self) -> None:
        """See who is there: what has been seen before this is old."""
        self._changes += 1
        self._eyes.submit(self._look_around, self._changes)

    def _look_around(self, changes: int) -> None:
        with suppress(Exception):  # the connection is lost, which is told elsewhere
            found = workers_of(self._client)
            self._listener.later(partial(self._on_seen, changes, found))

    def _on_seen(self, changes: int, found: dict[str, Any]) -> None:
        if changes != self._changes:
            return  # somebody looks again
        for address in self._workers.keys() - found.keys():
            self._on_gone(address)
        self._rejected &= found.keys()
        for address in found.keys() - self._workers.keys() - self._rejected:
            if self._fitness is None or address in self._fit:
                self._workers[address] = found[address]
                self._listener.joined(address, found[address]["nthreads"])
            elif address not in self._judged:
                trial = self._judged[address] = object()
                self._judges.submit(self._judge, self._fitness, address, trial)

    def _judge(self, fitness: Fitness, address: str, trial: object) -> None:
        """See whether a worker that has joined can be used."""
        words = None
        with suppress(Exception):  # the connection is lost, which is told elsewhere
            words = fitness.judged(address)
        self._listener.later(partial(self._on_judged, address, trial, words))

    def _on_judged(self, address: str, trial: object, words: str | None) -> None:
        if self._judged.get(address) is not trial:
            return  # it has gone meanwhile
        del self._judged[address]
        if words:
            self._rejected.add(address)
            _logger.warning("%s; it is left out", misfit({address: words}))
        elif words is not None:
            self._fit.add(address)
            self._on_change()

    def _on_gone(self, address: str) -> None:
        """Forget what was at a worker: Dask would make it again, if it came back."""
        for known in (self._fit, self._rejected):
            known.discard(address)
        self._judged.pop(address, None)
        if self._workers.pop(address, None) is None:
            return
        self._errands.call_off(address)
        for tasks in (self._reports, self._results):
            for number in [n for n, task in tasks.items() if task.place == address]:
                del tasks[number]
        self._listener.left(address)

    def _on_message(self, event: Any) -> None:
        """Hear what workers tell; the topic is the client's own, which the scheduler clears."""
        if not isinstance(event[1], bytes):
            return  # the scheduler tells of the client
        found = pickle.loads(event[1])  # noqa: S301 - our own worker's
        if isinstance(found, Attempt):
            self._listener.announced(found)
        else:
            self._listener.later(partial(self._report, *found))

    def lacking(self, needs: Needs) -> Lack | None:
        workers = tuple(self._workers.values())
        lack = lack_of(needs, [_resources(facts, self._memory) for facts in workers])
        return lack._replace(addition=_addition(*lack.needs[0])) if lack and self._is_own else lack

    def suits(self, place: str, needs: Needs) -> bool:
        facts = self._workers.get(place)
        return facts is not None and has(_resources(facts, self._memory), needs)

    # ------------------------------------------------------------ chunks

    def submit(self, order: Order) -> None:
        brief, place = order.brief, order.place
        luggage = None if order.is_known else order.luggage
        self._reports[brief.number] = _Task(place)
        self._has_sent = True
        shares = luggage is not None and luggage.size >= SCATTERED
        if shares or brief.parcel.size >= SCATTERED:
            self._errands.run(place, self._scatter, order, luggage, shares)
        else:
            self._send(order, pickle.dumps((brief, luggage), 5), None)

    def _send(self, order: Order, load: Any, shared: Any) -> None:
        brief, number = order.brief, order.brief.number
        lost = any(reference.kept.number not in self._results for reference in order.references)
        if number not in self._reports or lost:  # a worker has gone meanwhile, which is told
            return
        taken = [self._results[reference.kept.number].future for reference in order.references]
        key, needs = f"hypernodes-{DRIVER}-{number}", order.needs
        told = load, shared, self._client.id
        task = self._submit(number, key, order.place, needs, run, *told, *taken)
        if brief.keeps:
            self._results[number] = task

    def _submit(
        self, number: int, key: str, place: str, needs: Needs, run: Callable[..., Any], *args: Any
    ) -> _Task:
        """Have a task run that gives the report of a chunk, or tells it."""
        options = {"workers": [place], "pure": False, "retries": 0, "resources": _abstract(needs)}
        future = self._client.submit(run, *args, key=key, **options)
        task = self._reports[number] = _Task(place, future)
        future.add_done_callback(partial(self._on_done, number))
        return task

    def _ask_for_report(self, number: int, task: _Task) -> None:
        """Have a report come without the values that stay where they were made."""
        key = f"hypernodes-{DRIVER}-{number}-report"
        self._submit(number, key, task.place, (), report_of, task.future)

    # ------------------------------------------------------------ what is big

    async def _scatter(self, order: Order, luggage: Luggage | None, shares: bool) -> None:  # noqa: FBT001
        """Move what is big to the workers, and send the chunk after it."""
        brief, place = order.brief, order.place
        try:
            shared = await self._once_shared(brief.token, luggage) if shares else None
            load: Any = brief, None if shares else luggage
            load = await insist(partial(self._scattered, load, [place]), PAUSES)
        except Exception as error:  # noqa: BLE001 - of whatever kind: it cannot run
            self._listener.broken(self._unfit(error))
            return
        self._listener.later(partial(self._send, order, load, shared))

    async def _scattered(self, value: Any, workers: list[str] | None = None) -> Any:
        options = {"workers": workers, "hash": False, "asynchronous": True}
        (future,) = await self._client.scatter([value], **options)
        return future

    async def _once_shared(self, token: int, luggage: Luggage | None) -> Any:
        """Return the future of what the chunks of a plan share, which is moved once."""
        moved = self._shared.get(token)
        if moved is None or (moved.done() and moved.result().status != "finished"):
            moving = insist(partial(self._scattered, luggage), PAUSES)
            self._shared[token] = asyncio.create_task(moving)
        return await asyncio.shield(self._shared[token])

    # ------------------------------------------------------------ what comes back

    def _on_done(self, number: int, _: Any) -> None:
        self._done.append(number)
        self._listener.later(self._collect)

    def _collect(self) -> None:
        """Fetch the reports of tasks that are done, and have not told them."""
        finished: dict[str, dict[int, Any]] = {}
        while self._done:
            number = self._done.popleft()
            task = self._reports.get(number)
            if task is None:
                continue
            if task.future.status != "finished":
                self._on_unfinished(number, task.future)
            elif task is self._results.get(number):
                self._ask_for_report(number, task)
            else:
                finished.setdefault(task.place, {})[number] = task.future
        for place, futures in finished.items():
            self._errands.run(place, self._gather, futures)

    async def _gather(self, futures: dict[int, Any]) -> None:
        gather = partial(self._client.gather, list(futures.values()), asynchronous=True)
        try:
            found = await insist(gather, PAUSES)
        except Exception as error:  # noqa: BLE001 - of whatever kind: nobody can read it
            self._listener.broken(self._unfit(error))
            return
        for number, (report, kept) in zip(futures, found, strict=True):
            self._listener.later(partial(self._report, number, report, tuple(kept)))

    def _report(self, number: int, report: Report, slots: tuple[int, ...]) -> None:
        if self._reports.pop(number, None) is None:
            return
        if slots:
            self._listener.kept(number, slots)
        else:
            self._results.pop(number, None)
        self._listener.reported(number, report)

    def _on_unfinished(self, number: int, future: Any) -> None:
        del self._reports[number]
        self._results.pop(number, None)
        if future.status == "error":
            error = future.exception()
            if not isinstance(error, KilledWorker):
                self._listener.broken(self._unfit(error))
                return
        elif self._client.status != "running":
            self._listener.broken(self._lifeline.cut_off())
            return
        self._shared_is_lost()
        self._listener.mislaid(number)

    def _shared_is_lost(self) -> None:
        """Have all that is shared moved anew: some of it may have been lost with a worker."""
        self._client.loop.add_callback(self._shared.clear)

    def _unfit(self, error: Any) -> HyperNodesError:
        return _unfit(error) if self._client.status == "running" else self._lifeline.cut_off()

    def look(self, place: str, numbers: Collection[int], *, back: bool, void: bool) -> None:
        self._errands.run(place, self._look, place, list(numbers), back, void)

    async def _look(self, place: str, numbers: list[int], back: bool, void: bool) -> None:  # noqa: FBT001
        facts = {"back": back, "void": void, "workers": [place], "asynchronous": True}
        with suppress(Exception):  # it is gone, and that is told elsewhere
            found = await self._client.run(_worker.look, DRIVER, numbers, **facts)
            for number, report in found[place].items():
                if report.back == 0:  # it may wait for ever for what was lost
                    self._listener.later(partial(self._drop, number))
                self._listener.reported(number, report)
        self._listener.looked(numbers)

    def _drop(self, number: int) -> None:
        self._reports.pop(number, None)
        self._results.pop(number, None)

    def release(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            self._results.pop(number, None)

    def forget(self, places: Collection[str], tokens: Collection[int]) -> None:
        self._errands.run("plans", self._forget, list(places), tokens)

    async def _forget(self, places: list[str], tokens: Collection[int]) -> None:
        options = {"workers": places, "on_error": "ignore", "asynchronous": True}
        with suppress(Exception):  # some are gone, or all; that is told elsewhere
            await self._client.run(_worker.forget, DRIVER, tokens, **options)

    def unshare(self, tokens: Collection[int]) -> None:
        for token in tokens:
            self._client.loop.add_callback(self._shared.pop, token, None)

    def bears(self) -> bool:
        found = self._client.run(eval, IS_DAEMON, on_error="return")
        return True not in found.values()

    def kill(self, place: str) -> None:
        if self._kill is not None and place in self._workers:
            self._kill(self._workers[place]["name"])

    def close(self) -> None:
        self._lifeline.stop()
        if self._has_sent and self._lifeline.lost is None and self._client.status == "running":
            self._leave()
        self._reports.clear()
        self._results.clear()
        self._errands.close()
        for topic in (EVERYONE, self._client.id):
            with suppress(Exception):  # the connection may be gone
                self._client.unsubscribe_topic(topic)
        for close in self._closing:
            with suppress(Exception):  # the others are to be closed, too
                close()
        self._eyes.shutdown(wait=False)
        self._judges.shutdown(wait=False)

    def _leave(self) -> None:
        """Have workers stop what they do for this process, and forget it; none is waited for."""
        asked = self._client.run(_worker.take_leave, DRIVER, asynchronous=True)
        loop = self._client.loop.asyncio_loop
        with suppress(Exception):  # some of them may be gone
            asyncio.run_coroutine_threadsafe(asyncio.wait_for(asked, PARTING), loop).result()


def _resources(facts: Any, memory: float) -> dict[str, float]:
    """Return what a worker has, by the names that nodes use."""
    started_with = facts["resources"]
    named = {ours: started_with[theirs] for ours, theirs in GPU.items() if theirs in started_with}
    own = {"num_cpus": facts["nthreads"], "memory": facts["memory_limit"] or memory}
    return {**started_with, **named, **own}


def _addition(name: str, amount: float) -> str | None:
    """Return how workers of our own come to have something; None where they have all there is."""
    if name == "memory":
        return None
    given: dict[str, Any] = {"threads_per_worker": math.ceil(amount)}
    if name != "num_cpus":
        given = {"resources": {GPU.get(name, name): amount}}
    return f"have an on_executor_start hook set options['cluster_kwargs'] = {given}"


def _abstract(needs: Needs) -> dict[str, float] | None:
    """Return what Dask itself keeps account of: the resources that workers were started with."""
    own = {"num_cpus", "memory"}
    return {GPU.get(name, name): amount for name, amount in needs if name not in own} or None


def _unfit(error: Any) -> HyperNodesError:
    remedy = "it needs the same version of hypernodes, cloudpickle and Python as this process"
    return unfit("a Dask worker", error, remedy)
