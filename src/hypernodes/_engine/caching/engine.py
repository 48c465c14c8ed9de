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
from hypernodes._engine.caching.orders import (
    AROUND,
    LOOKUPS,
    ORDER,
    Call,
    FailedError,
)
from hypernodes._engine.caching.prepared import Item, Prepared
from hypernodes._engine.caching.telling import has_replaced, tell_found
from hypernodes._engine.drive import drive
from hypernodes._engine.flights import FLIGHTS
from hypernodes._engine.kernel import NO_ITEM, maps_here
from hypernodes._engine.observing.posted import posting
from hypernodes._engine.segments import split
from hypernodes.cache._code import CodeSnapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence

    from hypernodes._engine.batches import Batch
    from hypernodes._engine.caching.prepared import Found
    from hypernodes._engine.caching.resolver import Resolver
    from hypernodes._engine.failure import Given, Outcome
    from hypernodes._engine.jobs import Entry
    from hypernodes._engine.kernel import Attempt, Enter, InThread
    from hypernodes._engine.observing.follower import Follower
    from hypernodes._engine.observing.witness import Witness
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
        self, inputs: Mapping[str, Any], batch: Batch, enter: Enter | None = None
    ) -> tuple[dict[int, Outcome], Batch]:
        prepared, identify = self.prepared(inputs), CodeSnapshot().identify
        items = {index: self.item(prepared, item, identify) for index, item in batch.items()}
        self._look_at_ends(prepared, items.values())
        hits: dict[int, Outcome] = {}
        rest: dict[int, Item] = {}
        for index, item in items.items():
            outcome = self._hit(prepared, item)
            if outcome is None:
                rest[index] = item
            else:
                if enter is not None:
                    self._tell_hit(enter(index), prepared, item, outcome)
                hits[index] = outcome
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

    def _tell_hit(
        self, witness: Witness | None, inputs: Prepared, item: Item, outcome: Outcome
    ) -> None:
        """Tell a witness of an item, or run, all of which was found."""
        if witness is None:
            return
        self.opened(inputs, item, witness)
        values = self.plan.values(inputs, item)
        for step in self.scheme.ends:
            made = origin_of(item.slot_keys[step.outputs[0]] or "")[0]
            self._tell_found(witness, step, made, values, item.found[step.index])
        self.closed(witness, outcome)

    def _tell_found(
        self,
        witness: Witness | None,
        step: Step,
        made: str,
        values: Mapping[Slot, Any],
        outputs: Found,
    ) -> None:
        if witness is not None and outputs is not None:
            tell_found(self, witness, step, made, values=values, outputs=outputs)

    def found(
        self,
        resolver: Resolver,
        step: Step,
        made: str,
        outputs: Found,
        witness: Witness | None,
    ) -> None:
        """Have a resolver take what a lookup has given; tell a witness of it."""
        self._tell_found(witness, step, made, resolver.values, outputs)
        resolver.look_at(step, outputs)

    def unknown(
        self, resolver: Resolver, item: Item, witness: Witness | None
    ) -> list[tuple[Step, str]]:
        """Return the lookups that a resolver wants, and tell it what was looked up before."""
        unknown: list[tuple[Step, str]] = []
        while lookups := resolver.take_lookups():
            for step, made in lookups:
                if step.index in item.found:
                    self.found(resolver, step, made, item.found.pop(step.index), witness)
                else:
                    unknown.append((step, made))
        return unknown

    # ------------------------------------------------------------ whole plans

    @property
    def loop(self) -> None:
        """Items are looked up first."""

    def attempter(self) -> Attempt:
        return self._attempt_present

    def attempt_told(
        self,
        inputs: Mapping[str, Any],
        item: Mapping[str, Any],
        index: int | None,
        witness: Witness | None,
    ) -> Outcome:
        prepared = self.prepared(inputs)
        known = self.item(prepared, item)
        if not isinstance(item, Item):
            if not known.found:
                self._look_at_ends(prepared, [known])
            hit = self._hit(prepared, known)
            if hit is not None:
                self._tell_hit(witness, prepared, known, hit)
                return hit
        self.opened(prepared, known, witness)
        outcome = drive(self._resolve(prepared, known, index, here, witness))
        self.closed(witness, outcome)
        if prepared is not inputs:
            self.finish(prepared)
        return outcome

    async def await_item(
        self,
        inputs: Mapping[str, Any],
        item: Mapping[str, Any],
        index: int,
        in_thread: InThread,
        witness: Witness | None,
    ) -> Outcome:
        prepared = self.prepared(inputs)
        known = self.item(prepared, item)
        self.opened(prepared, known, witness)
        outcome = await self._resolve(prepared, known, index, in_thread, witness)
        self.closed(witness, outcome)
        return outcome

    def attempt_all(
        self,
        inputs: Mapping[str, Any],
        items: Iterable[Mapping[str, Any]],
        enter: Enter | None = None,
    ) -> Iterator[tuple[int, Outcome]]:
        prepared = self.prepared(inputs)
        enter = (enter or self.present) if self.is_observed else None
        entries = enumerate(items)
        try:
            while batch := _taken(entries):
                yield from self._attempt_batch(prepared, batch, enter)
        finally:
            self.finish(prepared)

    def _attempt_batch(
        self, inputs: Prepared, batch: Batch, enter: Enter | None
    ) -> Iterator[tuple[int, Outcome]]:
        witnesses = {} if enter is None else {index: enter(index) for index in batch}
        news: dict[int, list[Callable[[], None]]] = {index: [] for index in witnesses}
        later = partial(_told_later, witnesses, news) if witnesses else None
        found, rest = self.look_up(inputs, batch, later)
        for index in batch:
            for tell in news.pop(index, ()):
                tell()
            if index in found:
                yield index, found.pop(index)
            else:
                witness = witnesses.get(index)
                yield index, self.attempt_told(inputs, rest[index], index, witness)

    async def _resolve(
        self,
        inputs: Prepared,
        item: Item,
        index: int | None,
        in_thread: InThread,
        witness: Witness | None,
    ) -> Outcome:
        """Do what is left to do for an item, one thing after another."""
        resolver = self.resolver(inputs, item, self.plan.values(inputs, item))
        try:
            while True:
                wanted = self.unknown(resolver, item, witness)
                if wanted:
                    found = await in_thread(load, self, wanted, inputs.once)
                    for (step, made), outputs in zip(wanted, found, strict=True):
                        self.found(resolver, step, made, outputs, witness)
                    continue
                ready = resolver.next_ready()
                if ready is None:
                    return resolver.outputs()
                if in_thread is here:
                    check()
                call = Call(index, in_thread, witness)
                outputs = await self._made(ready, resolver, item, inputs, call)
                resolver.settle(ready, outputs, replaced=has_replaced(witness, ready))
        except FailedError as error:
            failure = error.failure
            return failure if index is None else failure.at_item(index, dict(item))

    async def _made(
        self,
        step: Step,
        resolver: Resolver,
        item: Item,
        inputs: Prepared,
        call: Call,
    ) -> Sequence[Any]:
        self.check_arguments(step, resolver, inputs)
        order, values = self.order(step, resolver, item, inputs), resolver.values
        if step.index in self.inner_engines:
            mapped = partial(map_inside, order=order, inputs=inputs, call=call)
            return await call.in_thread(mapped, self, step, values, resolver.keys)  # type: ignore[no-any-return]
        if order is None:
            return await self.called(step, values, call)
        return await make(self, step, values, order, call)

    # ------------------------------------------------------------ single steps

    def frame(
        self,
        inputs: Mapping[str, Any],
        item: Mapping[str, Any],
        index: int | None,
        done: Callable[[Outcome], None],
        *,
        witness: Follower | None = None,
    ) -> CachedFrame:
        prepared = self.prepared(inputs)
        known = self.item(prepared, item)
        return CachedFrame(self, prepared, known, index, done, witness=witness)

    def attempt_segment(
        self,
        number: int,
        values: dict[Slot, Any],
        index: int | None = None,
        is_wanted: Callable[[], bool] | None = None,
        witness: Witness | None = None,
    ) -> Given:
        facts = number, values, index, is_wanted, here
        return drive(self.await_segment(*facts, witness=witness))

    async def await_segment(
        self,
        number: int,
        values: dict[Slot, Any],
        index: int | None,
        is_wanted: Callable[[], bool] | None,
        in_thread: InThread,
        *,
        witness: Witness | None = None,
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
        call = Call(index, in_thread, witness)
        try:
            if around is not None:
                inputs, keys = around
                mapped = partial(map_inside, order=order, inputs=inputs, call=call)
                outputs = await in_thread(mapped, self, step, values, keys)
            elif order is None:
                marks = self.marks(step, values)
                outputs = await self.called(step, values, call)
                self.note_changes(step, values, marks)
            else:
                outputs = await make(self, step, values, order, call)
        except FailedError as error:
            return error.failure
        return dict(zip(step.outputs, outputs, strict=True))

    async def called(
        self,
        step: Step,
        values: Mapping[Slot, Any],
        call: Call,
    ) -> Sequence[Any]:
        """Return what a step gives, from the function itself.

        Args:
            step: The step.
            values: What it takes, by slot.
            call: How it is called.
        """
        in_thread = call.in_thread
        slots, keywords = self.takes[step.index]
        positional = [values[slot] for slot in slots]
        if step.index in self.observed:
            positional.insert(0, call.witness)
        named = {keyword: values[slot] for keyword, slot in keywords} if keywords else NO_ITEM
        try:
            if in_thread is here:
                result = self.calls[step.index](*positional, **named)
            elif step.index in self.coroutines:
                result = await self.coroutines[step.index](*positional, **named)
            else:
                result = await in_thread(partial(self.calls[step.index], *positional, **named))
        except Exception as error:  # noqa: BLE001 - whatever the user's function raised
            raise FailedError(self.failure(error, step, call.item)) from None
        return tuple(result) if step.unpacks else (result,)


def _told_later(
    witnesses: Mapping[int, Witness | None],
    news: Mapping[int, list[Callable[[], None]]],
    index: int,
) -> Witness | None:
    """Return who puts by what an item's witness is to be told."""
    witness = witnesses[index]
    return None if witness is None else posting(witness, news[index].append)


def _taken(entries: Iterator[Entry]) -> Batch:
    """Take some items: those that come at once, and at least one if there is one."""
    taken: dict[int, Mapping[str, Any]] = {}
    enough = perf_counter() + PATIENCE
    for index, item in islice(entries, MOST_AT_ONCE):
        taken[index] = item
        if perf_counter() > enough:
            break
    return taken
