"""What is noted of a run while it runs: of bounded size, whatever the number of its items."""

from __future__ import annotations

import heapq
from collections import Counter
from concurrent import futures
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from hypernodes.telemetry._report.lanes import Block, Timeline
from hypernodes.telemetry._report.words import message_of, spelled, trace_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hypernodes._dispatch.place import Worker
    from hypernodes.pipeline import Pipeline

T = TypeVar("T")
Path = tuple[str, ...]
Key = tuple[Path, tuple[str, ...]]
"""What tells nodes apart: the names that lead there, and the outputs, since names may repeat."""

MOST_BLOCKS: Final = 3_000
MOST_LANES: Final = 48
MOST_ROWS: Final = 12


class Slowest(Generic[T]):
    """Keeps the entries with the longest durations.

    Args:
        size: How many.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._heap: list[tuple[float, int, T]] = []
        self._count = 0

    def wants(self, seconds: float) -> bool:
        """Return whether an entry of that duration would be kept."""
        if len(self._heap) < self._size:
            return True
        return bool(self._heap) and seconds > self._heap[0][0]

    def add(self, seconds: float, entry: T) -> None:
        """Keep an entry that is wanted, in the place of the shortest."""
        self._count += 1
        put = heapq.heappush if len(self._heap) < self._size else heapq.heapreplace
        put(self._heap, (seconds, -self._count, entry))

    def entries(self) -> list[T]:
        """Return what is kept, the longest first."""
        return [entry for _, _, entry in sorted(self._heap, reverse=True)]


@dataclass(slots=True)
class NodeStats:
    """All calls of a node; those that were found in the cache are no calls.

    Attributes:
        calls: How many came to an end, a good one or not.
        seconds: How long they took together.
        longest: How long the longest took.
        cached: How many results were found in the cache.
        missed: How many were looked for in the cache in vain.
        failed: How many calls failed for good.
        cancelled: How many were given up because something around them had ended.
        retries: How many attempts failed and were made again.
    """

    calls: int = 0
    seconds: float = 0.0
    longest: float = 0.0
    cached: int = 0
    missed: int = 0
    failed: int = 0
    cancelled: int = 0
    retries: int = 0

    def plus(self, other: NodeStats) -> NodeStats:
        """Return both together."""
        return NodeStats(
            self.calls + other.calls,
            self.seconds + other.seconds,
            max(self.longest, other.longest),
            self.cached + other.cached,
            self.missed + other.missed,
            self.failed + other.failed,
            self.cancelled + other.cancelled,
            self.retries + other.retries,
        )


@dataclass(slots=True)
class ItemStats:
    """The items of all maps of a run.

    Attributes:
        done: How many have ended well.
        failed: How many have failed.
        cancelled: How many were given up.
    """

    done: int = 0
    failed: int = 0
    cancelled: int = 0


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a node.

    Attributes:
        key: The node.
        items: The indexes of the items around it, from the outside in.
        start: When it started, in seconds after the run did.
        seconds: How long it took.
        worker: Where.
        has_failed: Whether it failed.
    """

    key: Key
    items: tuple[int, ...]
    start: float
    seconds: float
    worker: Worker
    has_failed: bool = False


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a map.

    Attributes:
        path: The pipeline that was mapped.
        items: Its index, after those of the items around it.
        seconds: How long it took.
        inputs: Its inputs, in words.
        has_failed: Whether it failed.
    """

    path: Path
    items: tuple[int, ...]
    seconds: float
    inputs: tuple[tuple[str, str], ...]
    has_failed: bool = False


@dataclass(slots=True)
class Fault:
    """A failure, in words.

    Attributes:
        path: The names that lead to the node, or to the pipeline.
        key: The node, if it is one's.
        items: The indexes of the items around it.
        kind: The name of the error's class.
        message: What the error says.
        trace: Its traceback.
        inputs: The node's inputs; None where nobody can tell them any more.
        item_inputs: Those of the item, if it is in one.
        start: When the node started, in seconds after the run did.
        seconds: How long it took.
        attempt: Which attempt it was.
        worker: Where.
    """

    path: Path
    key: Key | None
    items: tuple[int, ...]
    kind: str
    message: str
    trace: str
    inputs: tuple[tuple[str, str], ...] | None
    start: float
    seconds: float
    attempt: int
    worker: Worker
    item_inputs: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class RunStats:
    """All runs of a pipeline inside.

    Attributes:
        runs: How many.
        seconds: How long they took together.
    """

    runs: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class Record:
    """A run.

    Attributes:
        run_id: What tells it from all others.
        pipeline: What runs.
        path: Its place; more than one name where only something inside a run is reported.
        is_map: Whether it is a map.
        epoch: When it started, in seconds since the epoch.
        origin: The same on the clock of its events.
        config: What is said of its config: names and values.
        most_slowest: How many of the slowest are kept.
        most_faults: How many failures are told in full.
    """

    run_id: str
    pipeline: Pipeline
    path: Path
    is_map: bool
    epoch: float
    origin: float
    config: tuple[tuple[str, str], ...]
    most_slowest: int
    most_faults: int
    seconds: float = 0.0
    status: str = "running"
    error: BaseException | None = None
    count: int | None = None
    nodes: dict[Key, NodeStats] = field(default_factory=dict)
    runs: dict[Path, RunStats] = field(default_factory=dict)
    items: ItemStats = field(default_factory=ItemStats)
    own_items: ItemStats = field(default_factory=ItemStats)
    faults: list[Fault] = field(default_factory=list)
    fault_counts: Counter[tuple[Path, str]] = field(default_factory=Counter)
    timeline: Timeline = field(default_factory=lambda: Timeline(MOST_BLOCKS, MOST_LANES, MOST_ROWS))
    slowest_calls: Slowest[Call] = field(init=False)
    slowest_items: Slowest[Item] = field(init=False)

    def __post_init__(self) -> None:
        self.slowest_calls = Slowest(self.most_slowest)
        self.slowest_items = Slowest(self.most_slowest)

    def node(self, key: Key) -> NodeStats:
        """Return what is noted of a node."""
        stats = self.nodes.get(key)
        if stats is None:
            stats = self.nodes[key] = NodeStats()
        return stats

    @property
    def total(self) -> NodeStats:
        """The figures of all nodes together."""
        whole = NodeStats()
        for stats in self.nodes.values():
            whole = whole.plus(stats)
        return whole

    def called(self, call: Call) -> None:
        """Note a call of a node."""
        stats = self.node(call.key)
        stats.calls += 1
        stats.seconds += call.seconds
        stats.longest = max(stats.longest, call.seconds)
        stats.failed += call.has_failed
        end, failed = call.start + call.seconds, int(call.has_failed)
        block = Block(call.start, end, call.key, call.seconds, failed=failed)
        self.timeline.add(call.worker, block)
        if self.slowest_calls.wants(call.seconds):
            self.slowest_calls.add(call.seconds, call)

    def fault(self, fault: Fault) -> None:
        """Note a failure; after so many, only its kind and place."""
        self.fault_counts[fault.path, fault.kind] += 1
        if len(self.faults) < self.most_faults:
            self.faults.append(fault)

    @property
    def wants_faults(self) -> bool:
        """Whether failures are still told in full."""
        return len(self.faults) < self.most_faults


def is_given_up(error: BaseException) -> bool:
    """Return whether something ended only because what is around it had."""
    return isinstance(error, futures.CancelledError)


def described(inputs: Mapping[str, Any] | None) -> tuple[tuple[str, str], ...]:
    """Return inputs in words."""
    return tuple((name, spelled(value)) for name, value in (inputs or {}).items())


def words_of(error: BaseException, *, in_full: bool) -> tuple[str, str, str]:
    """Return the name of an error's class, what it says, and its traceback."""
    kind = type(error).__qualname__
    return (kind, message_of(error), trace_of(error)) if in_full else (kind, "", "")
