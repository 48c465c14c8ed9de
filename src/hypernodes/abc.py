"""The contracts: how a pipeline runs (`Executor`), where (`Backend`), what is kept (`Cache`).

Executors and backends are frozen pydantic models: descriptions that can be compared, hashed,
pickled, printed and kept in a file. What they open (pools, clusters) lives elsewhere and is opened
on first use. A cache is a live object; its description is a `CacheSpec`.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from enum import Enum
from time import time
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from hypernodes._aside import in_thread
from hypernodes._described import Described
from hypernodes.exceptions import SerializationError

if TYPE_CHECKING:
    from typing import Self

    from hypernodes._engine.failure import Failure
    from hypernodes.config import RuntimeConfig
    from hypernodes.pipeline import Pipeline

__all__ = ["MISS", "Backend", "Cache", "CacheStats", "EntryRecord", "Executor", "RunContext"]

OutputName = str | Sequence[str] | None
"""Which outputs are asked for: one name, several, or None for all."""


@dataclass(frozen=True, slots=True)
class RunContext:
    """What a run is told besides its inputs; an executor hands it on as it is.

    Attributes:
        config: The config in force for the pipeline.
        pinned: Whether `config` was given at the call and so rules nested pipelines and nodes too.
        path: The names from the outermost pipeline to this one.
        away: Whether another executor's run asks for this one.
        maps_on: The executor that is asked for the maps inside; None for the one that runs this.
        nodes_on: The executor that runs each item of this map; None for the one that maps.
        in_order: Whether the nodes of each item of this map run one after another.
        cached: Whether results may be kept here; not inside `as_node(cache=False)`.
        audience: 0 where nobody observes the run, nor anything in it; else a number that is
            another one whenever the plugins are, or -1 in a worker where hooks are called around
            nodes.
    """

    config: RuntimeConfig
    pinned: bool = False
    path: tuple[str, ...] = ("pipeline",)
    away: bool = False
    maps_on: Executor | None = None
    nodes_on: Executor | None = None
    in_order: bool = False
    cached: bool = True
    audience: int = 0


class Executor(Described, ABC):
    """How: runs a pipeline, or maps it over items.

    An executor is a description; equal ones share what they have opened. Every executor gives the
    results of `SequentialExecutor`, in the same order.
    """

    @abstractmethod
    def run_pipeline(
        self,
        pipeline: Pipeline,
        inputs: Mapping[str, Any],
        ctx: RunContext,
        output_name: OutputName = None,
    ) -> dict[str, Any]:
        """Run `pipeline` once.

        Args:
            pipeline: What to run.
            inputs: Values by name.
            ctx: The config in force and where this run stands; goes on as it is.
            output_name: The outputs that are asked for; None for all.

        Returns:
            The outputs by name.

        Raises:
            Exception: What a node raised, as its own type.
        """

    async def arun_pipeline(
        self,
        pipeline: Pipeline,
        inputs: Mapping[str, Any],
        ctx: RunContext,
        output_name: OutputName = None,
    ) -> dict[str, Any]:
        """Do as `run_pipeline`, without blocking the running loop; by default in a thread."""
        return await in_thread(self.run_pipeline, pipeline, inputs, ctx, output_name)

    @abstractmethod
    def map_items(
        self,
        pipeline: Pipeline,
        items: Iterable[Mapping[str, Any]],
        inputs: Mapping[str, Any],
        ctx: RunContext,
        output_name: OutputName = None,
    ) -> Iterable[dict[str, Any] | Failure]:
        """Run `pipeline` once for each of `items`.

        Args:
            pipeline: What to run.
            items: The inputs that are each item's own; taken lazily, a bounded number ahead.
            inputs: The inputs that all items share.
            ctx: The config in force and where this run stands; goes on as it is.
            output_name: The outputs that are asked for; None for all.

        Returns:
            For each item, in order, its outputs, or a `Failure` where a node raised.
        """

    def map_unordered(
        self,
        pipeline: Pipeline,
        items: Iterable[Mapping[str, Any]],
        inputs: Mapping[str, Any],
        ctx: RunContext,
        output_name: OutputName = None,
    ) -> Iterator[tuple[int, dict[str, Any] | Failure]]:
        """Do as `map_items`, but yield `(index, result)`, in any order, as they finish."""
        return enumerate(self.map_items(pipeline, items, inputs, ctx, output_name))

    def inside_items(self, ctx: RunContext) -> RunContext:
        """Return the context for a map on another executor whose items are to run on this one.

        Args:
            ctx: The context of the map.
        """
        return replace(ctx, nodes_on=self)

    def beside(self, work: Callable[[], None]) -> None:
        """Start `work`, a run on this executor inside that of another, beside what the caller does.

        Args:
            work: Never raises; tells of its end by itself.
        """
        run = copy_context().run
        threading.Thread(target=run, args=(work,), name="hypernodes-beside", daemon=True).start()

    def close(self) -> None:
        """End what this executor and its equals have opened; the next run opens it anew."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class Backend(Described, ABC):
    """Where: takes a pipeline, its inputs and its config to the place where the executor runs."""

    @abstractmethod
    def run(
        self,
        pipeline: Pipeline,
        inputs: Mapping[str, Any],
        ctx: RunContext,
        output_name: OutputName = None,
    ) -> dict[str, Any]:
        """Run `pipeline` once there; as `Executor.run_pipeline`."""

    async def arun(
        self,
        pipeline: Pipeline,
        inputs: Mapping[str, Any],
        ctx: RunContext,
        output_name: OutputName = None,
    ) -> dict[str, Any]:
        """Do as `run`, without blocking the running loop; by default in a thread."""
        return await in_thread(self.run, pipeline, inputs, ctx, output_name)

    @abstractmethod
    def map(
        self,
        pipeline: Pipeline,
        items: Iterable[Mapping[str, Any]],
        inputs: Mapping[str, Any],
        ctx: RunContext,
        output_name: OutputName = None,
    ) -> Iterable[dict[str, Any] | Failure]:
        """Map `pipeline` over `items` there; as `Executor.map_items`."""

    def map_unordered(
        self,
        pipeline: Pipeline,
        items: Iterable[Mapping[str, Any]],
        inputs: Mapping[str, Any],
        ctx: RunContext,
        output_name: OutputName = None,
    ) -> Iterator[tuple[int, dict[str, Any] | Failure]]:
        """Do as `map`, but yield `(index, result)`, in any order, as they finish."""
        return enumerate(self.map(pipeline, items, inputs, ctx, output_name))

    def close(self) -> None:
        """End what this backend and its equals have opened; the next run opens it anew."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class Miss(Enum):
    """The type of `MISS`."""

    MISS = "MISS"

    def __repr__(self) -> str:
        return "MISS"


MISS: Final = Miss.MISS
"""What `Cache.get` returns for what is not there; None is a value."""


@dataclass(frozen=True, slots=True)
class CacheStats:
    """How a cache is used and what it holds.

    Attributes:
        hits: Values found by this object.
        misses: Values looked for and not found by this object.
        items: Entries there are.
        bytes: What they take, in bytes; an estimate where values are live objects.
    """

    hits: int = 0
    misses: int = 0
    items: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class EntryRecord:
    """What an entry was made from, so that a later miss can be told what changed since.

    Attributes:
        node: Which node made it; any text that stays the same between runs.
        signature: Of the entry.
        parts: What the signature is made of: a short digest for each name, such as "code".
        time: When, in seconds since the epoch.

    Example:
        >>> record = EntryRecord("clean", "ab12", {"code": "1f", "rows": "7a"})
        >>> record.changed({"code": "1f", "rows": "9c"})
        ('rows',)
    """

    node: str
    signature: str
    parts: Mapping[str, str]
    time: float = field(default_factory=time)

    def changed(self, parts: Mapping[str, str]) -> tuple[str, ...]:
        """Return the names in which `parts` differ from this entry's, sorted."""
        names = self.parts.keys() | parts.keys()
        return tuple(sorted(n for n in names if self.parts.get(n) != parts.get(n)))


class Cache(ABC):
    """What is kept: values by signature.

    A signature says all that a value depends on, so an entry is never out of date, and one value
    may be stored twice without harm. What a user does to a value, before or after, never changes
    what the cache returns next. Caches are used from many threads at once.

    Trouble with the store itself (a full disk, a damaged entry) is a `CacheWarning`, never an
    error: a cache that cannot be read misses, one that cannot be written forgets.

    A subclass writes `get`, `put`, `delete`, `clear` and `stats`; the rest derives from these, and
    is overridden where there is a faster way. A live cache stays in its process: where a config
    with it arrives elsewhere, there is None in its place, unless the subclass says by
    `__reduce__` what else. With `SHARED`, that is used there; without, only by the driver.

    Example:
        >>> from hypernodes import MISS, MemoryCache
        >>> cache = MemoryCache()
        >>> cache.put("ab12", None)
        >>> cache.get("ab12") is None, cache.get("cd34") is MISS
        (True, True)
    """

    RECORDS_KEPT: ClassVar[int] = 1000
    """How many records of a node are kept at least, where there are as many."""

    SHARED: ClassVar[bool] = False
    """Whether a copy in another process has the same entries; else only the driver uses it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _nothing, ()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    @abstractmethod
    def get(self, signature: str) -> Any | Literal[Miss.MISS]:
        """Return the value of `signature`, or `MISS`.

        Args:
            signature: A lowercase hex string, as long as it likes.
        """

    @abstractmethod
    def put(self, signature: str, value: Any) -> None:
        """Store `value`; one that the cache has no room for is forgotten.

        Args:
            signature: What `get` will ask for.
            value: Anything that can be pickled.

        Raises:
            SerializationError: The value cannot be pickled; nothing is stored.
        """

    @abstractmethod
    def delete(self, signature: str) -> None:
        """Forget the value of `signature`; of what is absent, nothing."""

    @abstractmethod
    def clear(self) -> None:
        """Forget all values and records."""

    @abstractmethod
    def stats(self) -> CacheStats:
        """Count what is there, and what this object found."""

    def has(self, signature: str) -> bool:
        """Say whether `get` is likely to find a value; a damaged entry may count as there."""
        return self.get(signature) is not MISS

    def get_many(self, signatures: Iterable[str]) -> dict[str, Any]:
        """Return the values that are there, by signature."""
        found = ((signature, self.get(signature)) for signature in signatures)
        return {signature: value for signature, value in found if value is not MISS}

    def has_many(self, signatures: Iterable[str]) -> set[str]:
        """Return those of `signatures` that are there, as `has` says."""
        return {signature for signature in signatures if self.has(signature)}

    def sound_many(self, signatures: Iterable[str]) -> set[str]:
        """Return those that `get` would find, as far as can be told without loading; for `explain`.

        By default those that are there. Nothing is made, changed or warned of.
        """
        return self.has_many(signatures)

    def put_many(self, values: Mapping[str, Any]) -> dict[str, SerializationError]:
        """Store `values`, by signature.

        Returns:
            Why values were refused, by signature; the others are stored.
        """
        refused = {}
        for signature, value in values.items():
            try:
                self.put(signature, value)
            except SerializationError as error:
                refused[signature] = error
        return refused

    def note(self, records: Iterable[EntryRecord]) -> None:
        """Remember what entries were made from; by default in this process only.

        Args:
            records: Of entries that were just stored, oldest first.
        """
        history = self.__dict__.setdefault("_history", {})
        for record in records:
            history.setdefault(record.node, deque(maxlen=self.RECORDS_KEPT)).append(record)

    def records(self, node: str) -> list[EntryRecord]:
        """Return what is known of how entries of `node` were made, newest first."""
        return list(self.__dict__.get("_history", {}).get(node, ()))[::-1]

    def nearest(self, node: str, parts: Mapping[str, str]) -> EntryRecord | None:
        """Return the record of `node` that differs least from `parts`, the newest of several."""
        return min(self.records(node), key=lambda known: len(known.changed(parts)), default=None)


def _nothing() -> None:
    """Take the place of a live cache where it cannot be."""
