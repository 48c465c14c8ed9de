"""The kernel for plans with a cache: where values are looked up, made and kept."""

from __future__ import annotations

from functools import cached_property, partial
from itertools import islice
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from hypernodes._cancel import check
from hypernodes._engine.caching.frame import CachedFrame
from hypernodes._engine.caching.keyed import KeyedEngine
from hypernodes._engine.caching.keys import origin_of
from hypernodes._engine.caching.loading import load
from hypernodes._engine.caching.making import here, make
from hypernodes._engine.caching.maps import map_inside
from hypernodes._engine.caching.orders import AROUND, LOOKUPS, ORDER, FailedError
from hypernodes._engine.caching.prepared import Item, Prepared
from hypernodes._engine.drive import drive
from hypernodes._engine.flights import FLIGHTS
from hypernodes._engine.kernel import NO_ITEM, maps_here
from hypernodes._engine.segments import split
from hypernodes.cache._code import CodeSnapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence

    from hypernodes._engine.caching.resolver import Resolver
    from hypernodes._engine.failure import Given, Outcome
    from hypernodes._engine.jobs import Batch, Entry
    from hypernodes._engine.kernel import InThread
    from hypernodes._engine.plan import Slot, Step
    from hypernodes._engine.segments import Segment

MOST_AT_ONCE: Final = 256
PATIENCE: Final = 0.001


class CachingEngine(KeyedEngine):
    """Runs what a plan says, except for what is kept already, and keeps what it makes."""

    looks_up: bool = True

    @cached_property
    def segments(self) -> tuple[Segment, ...]:
        return split(self.plan, fuse=False)

    @cached_property
    def overlaps(self) -> bool:
        return len(split(self.plan)) > 1 or any(map(maps_here, self.plan.steps))

    # ------------------------------------------------------------ lookups

    def look_up(
        self, inputs: Mapping[str, Any], batch: Batch
    ) -> tuple[list[tuple[int, Outcome]], Batch]:
        prepared, identify = self.prepared(inputs), CodeSnapshot().identify
        items = {index: self.item(prepared, item, identify) for index, item in batch.items()}
        self._look_at_ends(prepared, items.values())
        hits: list[tuple[int, Outcome]] = []
        rest: Batch = {}
        for index, item in items.items():
            outcome = self._hit(prepared, item)
            if outcome is None:
                rest[index] = item
            else:
                hits.append((index, outcome))
        return hits, rest

    def identity(self, item: Mapping[str, Any]) -> Hashable | None:
        if not (isinstance(item, Item) and self.scheme.is_static) or self.scheme.gives_inputs:
            return None
        keys = tuple([item.slot_keys[step.outputs[0]] for step in self.scheme.ends])
        return keys if all(keys) else None

    def _look_at_ends(self, inputs: Prepared, items: Iterable[Item]) -> None:
        """Look up what makes the outputs of items, all at once."""
        if not self.scheme.is_static:
            return
        now = FLIGHTS.now()
        wanted: list[tuple[Step, str]] = []
        owners: list[Item] = []
        for item in items:
            for step in self.scheme.ends:
                key = item.slot_keys[step.outputs[0]]
                if key:
                    wanted.append((step, origin_of(key)[0]))
                    owners.append(item)
        found = load(self, wanted, inputs.once) if wanted else []
        for item, (step, _), outputs in zip(owners, wanted, found, strict=True):
            item.found[step.index] = outputs
            item.since = now

    def _hit(self, inputs: Prepared, item: Item) -> Outcome | None:
        """Return the outputs of an item if all that makes them was found."""
        found, scheme = item.found, self.scheme
        if not scheme.is_static or len(found) < len(scheme.ends) or None in found.values():
            return None
        values = self.plan.values(inputs, item) if scheme.gives_inputs else {}
        for step in scheme.ends:
            values.update(zip(step.outputs, found[step.index] or (), strict=True))
        return {name: values[slot] for name, slot in self.plan.results.items()}

    def unknown(self, resolver: Resolver, item: Item) -> list[tuple[Step, str]]:
        """Return the lookups that a resolver wants, and tell it what was looked up before."""
        unknown: list[tuple[Step, str]] = []
        while lookups := resolver.take_lookups():
            for step, made in lookups:
                if step.index in item.found:
                    resolver.look_at(step, item.found.pop(step.index))
                else:
                    unknown.append((step, made))
        return unknown

    # ------------------------------------------------------------ whole plans

    def attempt(
        self, inputs: Mapping[str, Any], item: Mapping[str, Any] = NO_ITEM, index: int | None = None
    ) -> Outcome:
        prepared = self.prepared(inputs)
        known = self.item(prepared, item)
        if not isinstance(item, Item):
            if not known.found:
                self._look_at_ends(prepared, [known])
            hit = self._hit(prepared, known)
            if hit is not None:
                return hit
        outcome = drive(self._resolve(prepared, known, index, here))
        if prepared is not inputs:
            prepared.once.finish()
        return outcome

    async def await_item(
        self,
        inputs: Mapping[str, Any],
        item: Mapping[str, Any],
        index: int,
        in_thread: InThread,
    ) -> Outcome:
        prepared = self.prepared(inputs)
        return await self._resolve(prepared, self.item(prepared, item), index, in_thread)

    def attempt_all(
        self, inputs: Mapping[str, Any], items: Iterable[Mapping[str, Any]]
    ) -> Iterator[tuple[int, Outcome]]:
        prepared = self.prepared(inputs)
        entries = enumerate(items)
        try:
            while batch := _taken(entries):
                yield from self._attempt_batch(prepared, batch)
        finally:
            prepared.once.finish()

    def _attempt_batch(self, inputs: Prepared, batch: Batch) -> Iterator[tuple[int, Outcome]]:
        hits, rest = self.look_up(inputs, batch)
        found = dict(hits)
        for index in batch:
            if index in found:
                yield index, found.pop(index)
            else:
                yield index, self.attempt(inputs, rest.pop(index), index)

    def finish(self, inputs: Mapping[str, Any]) -> None:
        if isinstance(inputs, Prepared):
            inputs.once.finish()

    async def _resolve(
        self, inputs: Prepared, item: Item, index: int | None, in_thread: InThread
    ) -> Outcome:
        """Do what is left to do for an item, one thing after another."""
        resolver = self.resolver(inputs, item, self.plan.values(inputs, item))
        try:
            while True:
                wanted = self.unknown(resolver, item)
                if wanted:
                    found = await in_thread(load, self, wanted, inputs.once)
                    for (step, _), outputs in zip(wanted, found, strict=True):
                        resolver.look_at(step, outputs)
                    continue
                ready = resolver.next_ready()
                if ready is None:
                    return resolver.outputs()
                if in_thread is here:
                    check()
                made = await self._made(
                    ready, resolver, item, inputs, index=index, in_thread=in_thread
                )
                resolver.settle(ready, made)
        except FailedError as error:
            failure = error.failure
            return failure if index is None else failure.at_item(index, dict(item))

    async def _made(
        self,
        step: Step,
        resolver: Resolver,
        item: Item,
        inputs: Prepared,
        *,
        index: int | None,
        in_thread: InThread,
    ) -> Sequence[Any]:
        order = self.order(step, resolver, item, inputs)
        if step.index in self.inner_engines:
            values = resolver.values
            mapped = partial(map_inside, order=order, inputs=inputs, index=index)
            return await in_thread(mapped, self, step, values, resolver.keys)  # type: ignore[no-any-return]
        if order is None:
            return await self.called(step, resolver.values, index, in_thread)
        values = resolver.values
        return await make(self, step, values, order, index=index, in_thread=in_thread)

    # ------------------------------------------------------------ single steps

    def frame(
        self,
        inputs: Mapping[str, Any],
        item: Mapping[str, Any],
        index: int | None,
        done: Callable[[Outcome], None],
    ) -> CachedFrame:
        prepared = self.prepared(inputs)
        return CachedFrame(self, prepared, self.item(prepared, item), index, done)

    def attempt_segment(
        self,
        number: int,
        values: dict[Slot, Any],
        index: int | None = None,
        is_wanted: Callable[[], bool] | None = None,
    ) -> Given:
        return drive(self.await_segment(number, values, index, is_wanted, here))

    async def await_segment(
        self,
        number: int,
        values: dict[Slot, Any],
        index: int | None,
        is_wanted: Callable[[], bool] | None,
        in_thread: InThread,
    ) -> Given:
        if number == LOOKUPS:
            wanted, once = values[LOOKUPS]
            return {LOOKUPS: await in_thread(load, self, wanted, once)}
        if is_wanted is not None and not is_wanted():
            return {}
        if in_thread is here:
            check()
        step = self.segments[number].steps[0]
        order, around = values.get(ORDER), values.get(AROUND)
        try:
            if around is not None:
                inputs, keys = around
                mapped = partial(map_inside, order=order, inputs=inputs, index=index)
                outputs = await in_thread(mapped, self, step, values, keys)
            elif order is None:
                outputs = await self.called(step, values, index, in_thread)
            else:
                outputs = await make(self, step, values, order, index=index, in_thread=in_thread)
        except FailedError as error:
            return error.failure
        return dict(zip(step.outputs, outputs, strict=True))

    async def called(
        self,
        step: Step,
        values: Mapping[Slot, Any],
        index: int | None,
        in_thread: InThread,
    ) -> Sequence[Any]:
        """Return what a step gives, from the function itself.

        Args:
            step: The step.
            values: What it takes, by slot.
            index: The index of the item, in a map.
            in_thread: Calls what is no coroutine.
        """
        slots, keywords = self.takes[step.index]
        positional = [values[slot] for slot in slots]
        named = {keyword: values[slot] for keyword, slot in keywords} if keywords else NO_ITEM
        try:
            if in_thread is here:
                result = self.calls[step.index](*positional, **named)
            elif step.index in self.coroutines:
                result = await self.coroutines[step.index](*positional, **named)
            else:
                result = await in_thread(partial(self.calls[step.index], *positional, **named))
        except Exception as error:  # noqa: BLE001 - whatever the user's function raised
            raise FailedError(self.failure(error, step, index)) from None
        return tuple(result) if step.unpacks else (result,)


def _taken(entries: Iterator[Entry]) -> Batch:
    """Take some items: those that come at once, and at least one if there is one."""
    taken: Batch = {}
    enough = perf_counter() + PATIENCE
    for index, item in islice(entries, MOST_AT_ONCE):
        taken[index] = item
        if perf_counter() > enough:
            break
    return taken
