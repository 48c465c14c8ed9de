"""The kernel for plans with a cache: where values are looked up, made and kept."""

from __future__ import annotations

from functools import cached_property, partial
from itertools import islice
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from hypernodes._cancel import check
from hypernodes._engine.caching.codes import CodeReader
from hypernodes._engine.caching.frame import CachedFrame
from hypernodes._engine.caching.keys import UNSTABLE, origin_of, value_key
from hypernodes._engine.caching.loading import keep_map, load
from hypernodes._engine.caching.making import here, make
from hypernodes._engine.caching.orders import LOOKUPS, ORDER, Order
from hypernodes._engine.caching.prepared import Item, Once, Prepared
from hypernodes._engine.caching.resolver import Resolver
from hypernodes._engine.caching.scheme import Scheme, parameters
from hypernodes._engine.caching.shelf import Shelf
from hypernodes._engine.drive import drive
from hypernodes._engine.failure import Failure
from hypernodes._engine.flights import FLIGHTS
from hypernodes._engine.inner import gather, items_of
from hypernodes._engine.kernel import NO_ITEM, PipelineExecutionEngine, item_engine, maps_here
from hypernodes._engine.segments import split
from hypernodes.cache._code import CodeSnapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence

    from hypernodes._engine.caching.keys import Key, Keys
    from hypernodes._engine.caching.loading import Row
    from hypernodes._engine.caching.prepared import Codes
    from hypernodes._engine.failure import Given, Outcome
    from hypernodes._engine.jobs import Entry
    from hypernodes._engine.kernel import InThread
    from hypernodes._engine.plan import Slot, Step
    from hypernodes._engine.segments import Segment
    from hypernodes.cache._walk import Identify

MOST_AT_ONCE: Final = 256
PATIENCE: Final = 0.001


class CachingEngine(PipelineExecutionEngine):
    """Runs what a plan says, except for what is kept already, and keeps what it makes."""

    looks_up = True

    # ------------------------------------------------------------ what is known of the plan

    @cached_property
    def inner_engines(self) -> dict[int, CachingEngine]:
        """What runs the items of maps that use a cache, by the index of the mapped step."""
        maps = [step for step in self.plan.steps if maps_here(step) and step.inner is not None]
        engines = {step.index: item_engine(step.inner) for step in maps if step.inner is not None}
        return {i: engine for i, engine in engines.items() if isinstance(engine, CachingEngine)}

    @cached_property
    def signed_maps(self) -> frozenset[int]:
        """The indexes of mapped steps whose outputs can be told from the keys of their inputs."""
        engines = self.inner_engines.items()
        told = {i for i, engine in engines if engine.scheme.is_static and engine.scheme.ends}
        return frozenset(i for i in told if self.plan.steps[i].cached)

    @cached_property
    def scheme(self) -> Scheme:
        """How the steps are keyed."""
        maps = {step.index for step in self.plan.steps if maps_here(step)}
        return Scheme(self.plan, frozenset(maps - self.signed_maps))

    @cached_property
    def segments(self) -> tuple[Segment, ...]:
        return split(self.plan, fuse=False)

    @cached_property
    def overlaps(self) -> bool:
        return len(split(self.plan)) > 1 or any(map(maps_here, self.plan.steps))

    @property
    def is_tied(self) -> bool:
        signed = [step for step in self.plan.steps if self.scheme.signed[step.index]]
        inner = self.inner_engines.values()
        return any(self.shelf(step).is_tied for step in signed) or any(e.is_tied for e in inner)

    @cached_property
    def _shelves(self) -> dict[int, Shelf]:
        return {}

    def shelf(self, step: Step) -> Shelf:
        """Return the cache of a step that is cached."""
        source = step.config.cache
        shelf = self._shelves.get(id(source))
        return shelf or self._shelves.setdefault(id(source), Shelf(source))

    @cached_property
    def _reader(self) -> CodeReader:
        return CodeReader(self)

    def codes(self, snapshot: CodeSnapshot) -> Codes:
        """Return what signatures begin with, as the code is now."""
        return self._reader.read(snapshot)

    # ------------------------------------------------------------ what is known of a run

    def prepared(self, inputs: Mapping[str, Any]) -> Prepared:
        return inputs if isinstance(inputs, Prepared) else self.prepared_with(inputs, Once())

    def prepared_with(self, inputs: Mapping[str, Any], once: Once) -> Prepared:
        """Return inputs with what is to be known of them; see `prepared`.

        Args:
            inputs: The inputs.
            once: Warns of what has no identity.
        """
        snapshot = CodeSnapshot()
        return self._prepared(inputs, self.codes(snapshot), once, {}, snapshot.identify)

    @property
    def by_type(self) -> dict[int, tuple[str, ...]]:
        """What the code of steps uses that counts by its type only, by the index of the step."""
        return self._reader.by_type

    def shared_inputs(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        return self.prepared(inputs).only(self.plan.shared)

    def _prepared(
        self,
        inputs: Mapping[str, Any],
        codes: Codes,
        once: Once,
        known: Mapping[str, Key],
        identify: Identify,
    ) -> Prepared:
        """Return inputs with their keys.

        Args:
            inputs: What all items share.
            codes: What signatures begin with.
            once: What the run has warned of.
            known: Keys that are known, by the name of the input.
            identify: What classes and functions in the others hash to.
        """
        plan = self.plan
        keys: dict[int, Key] = {}
        for name, slot in plan.shared.items():
            if name in known:
                keys[slot] = known[name]
            elif slot in self._keyed_slots:
                keys[slot] = self._tell(once, slot, inputs[name], identify)
        for slot, value in plan.constants.items():
            if slot in self._keyed_slots:
                keys[slot] = self._tell(once, slot, value, identify)
        return Prepared(inputs, codes, keys, once)

    @cached_property
    def _keyed_slots(self) -> dict[Slot, list[tuple[Step, int]]]:
        """The slots that signed steps take: by which, and at which place."""
        takers: dict[Slot, list[tuple[Step, int]]] = {}
        for step in self.plan.steps:
            for place, argument in enumerate(step.arguments):
                if self.scheme.signed[step.index]:
                    takers.setdefault(argument.slot, []).append((step, place))
        return takers

    def _tell(self, once: Once, slot: Slot, value: Any, identify: Identify | None = None) -> Key:
        """Return the key of a value; warn of those that take it if it has none."""
        try:
            return value_key(value, identify)
        except Exception as error:  # noqa: BLE001 - the value's own code ran, it may raise anything
            reason = str(error)
            for step, place in self._keyed_slots.get(slot, ()):
                name = parameters(step)[place][1]
                message = partial(_unstable, step, name, reason)
                once.warn(("identity", step.path, name), message)
            return UNSTABLE

    def item(
        self, inputs: Prepared, item: Mapping[str, Any], identify: Identify | None = None
    ) -> Item:
        """Return an item with its keys."""
        if isinstance(item, Item):
            return item
        keys: Keys = [None] * self.plan.slots
        for slot, key in inputs.slot_keys.items():
            keys[slot] = key
        for name, slot in self.plan.mapped.items():
            if slot in self._keyed_slots:
                keys[slot] = self._tell(inputs.once, slot, item[name], identify)
        prefixes = inputs.codes.prefixes
        if UNSTABLE in keys or not all(prefixes[step.index] for step in self.scheme.static):
            return Item(item, keys)
        return Item(item, self.scheme.program(prefixes, keys))

    def resolver(self, inputs: Prepared, item: Item, values: dict[Slot, Any]) -> Resolver:
        """Return what decides for an item what to look up and what to run."""
        tell = partial(self._tell, inputs.once)
        return Resolver(self.scheme, inputs.codes.prefixes, [*item.slot_keys], values, tell)

    def order(self, step: Step, resolver: Resolver, item: Item, inputs: Prepared) -> Order | None:
        """Return what is to become of what a step makes, or None where it is not kept."""
        made = resolver.made.get(step.index)
        if not made:
            return None
        keys = resolver.keys
        taken = tuple([keys[slot] or UNSTABLE for slot in self.scheme.takes[step.index]])
        return Order(made, inputs.codes.parts[step.index], taken, item.since, inputs.once)

    # ------------------------------------------------------------ lookups

    def look_up(
        self, inputs: Mapping[str, Any], entries: Iterable[Entry]
    ) -> tuple[list[tuple[int, Outcome]], list[Entry]]:
        prepared, identify = self.prepared(inputs), CodeSnapshot().identify
        items = [(index, self.item(prepared, item, identify)) for index, item in entries]
        hits: list[tuple[int, Outcome]] = []
        rest: list[Entry] = []
        self._look_at_ends(prepared, [item for _, item in items])
        for index, item in items:
            outcome = self._hit(prepared, item)
            if outcome is None:
                rest.append((index, item))
            else:
                hits.append((index, outcome))
        return hits, rest

    def identity(self, item: Mapping[str, Any]) -> Hashable | None:
        if not (isinstance(item, Item) and self.scheme.is_static) or self.scheme.gives_inputs:
            return None
        keys = tuple([item.slot_keys[step.outputs[0]] for step in self.scheme.ends])
        return keys if all(keys) else None

    def _look_at_ends(self, inputs: Prepared, items: list[Item]) -> None:
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
        found = item.found
        if len(found) < len(self.scheme.ends) or None in found.values():
            return None
        if not self.scheme.is_static:
            return None
        values = self.plan.values(inputs, item) if self.scheme.gives_inputs else {}
        for step in self.scheme.ends:
            values.update(zip(step.outputs, found[step.index] or (), strict=True))
        return {name: values[slot] for name, slot in self.plan.results.items()}

    def unknown(self, resolver: Resolver, item: Item) -> list[tuple[Step, str]]:
        """Return the lookups that a resolver wants; it is told at once what was looked up before."""
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

    def _attempt_batch(self, inputs: Prepared, batch: list[Entry]) -> Iterator[tuple[int, Outcome]]:
        hits, rest = self.look_up(inputs, batch)
        found, waiting = dict(hits), dict(rest)
        for index, _ in batch:
            if index in found:
                yield index, found.pop(index)
            else:
                yield index, self.attempt(inputs, waiting.pop(index), index)

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
                resolver.settle(
                    ready, await self._made(ready, resolver, item, inputs, index, in_thread)
                )
        except _FailedError as error:
            failure = error.failure
            return failure if index is None else failure.at_item(index, dict(item))

    async def _made(
        self,
        step: Step,
        resolver: Resolver,
        item: Item,
        inputs: Prepared,
        index: int | None,
        in_thread: InThread,
    ) -> Sequence[Any]:
        order = self.order(step, resolver, item, inputs)
        if step.index in self.inner_engines:
            return await in_thread(self._mapped, step, resolver, order, inputs, index)  # type: ignore[no-any-return]
        if order is None:
            return await self.called(step, resolver.values, index, in_thread)
        return await make(self, step, resolver.values, order, index, in_thread)

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
        order = values.get(ORDER)
        try:
            if order is None:
                outputs = await self.called(step, values, index, in_thread)
            else:
                outputs = await make(self, step, values, order, index, in_thread)
        except _FailedError as error:
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
            raise _FailedError(self.failure(error, step, index)) from None
        return tuple(result) if step.unpacks else (result,)

    # ------------------------------------------------------------ maps inside

    def inner_items(
        self, step: Step, values: Iterable[Any], keys: Sequence[Key | None], inputs: Prepared
    ) -> tuple[Mapping[str, Any], Iterable[Mapping[str, Any]]]:
        """Return the shared inputs and the items of a mapped step, with their keys.

        Args:
            step: The step.
            values: What it takes, in order.
            keys: What is known of keys here, by slot.
            inputs: What the run has been given.
        """
        inner = step.inner
        assert inner is not None  # noqa: S101 - a map has a pipeline inside
        items = items_of(inner, values)
        engine = self.inner_engines.get(step.index)
        if engine is None:
            return items.shared, items.items
        pairs = zip(inner.inputs, step.arguments, strict=True)
        known = {name: keys[argument.slot] for name, argument in pairs}
        told = {name: key for name, key in known.items() if key is not None}
        codes, identify = inputs.codes.inner[step.index], CodeSnapshot().identify
        shared = engine._prepared(items.shared, codes, inputs.once, told, identify)  # noqa: SLF001
        return shared, (engine.item(shared, item, identify) for item in items.items)

    def rows(self, step: Step, items: Sequence[Mapping[str, Any]]) -> list[Row]:
        """Return the keys of what the items of a mapped step give, empty where there is none."""
        engine, inner = self.inner_engines.get(step.index), step.inner
        if engine is None or inner is None or step.index not in self.signed_maps:
            return [("",)]
        slots = [engine.plan.results[name] for name in inner.outputs]
        keys = [item.slot_keys for item in items if isinstance(item, Item)]
        return [tuple(each[slot] or "" for slot in slots) for each in keys]

    def _mapped(
        self,
        step: Step,
        resolver: Resolver,
        order: Order | None,
        inputs: Prepared,
        index: int | None,
    ) -> Sequence[Any]:
        """Return what a mapped step gives, one item after another."""
        inner = step.inner
        assert inner is not None  # noqa: S101 - a map has a pipeline inside
        values = [resolver.values[argument.slot] for argument in step.arguments]
        try:
            shared, items = self.inner_items(step, values, resolver.keys, inputs)
            known = list(items)
            lists = gather(inner, self.inner_engines[step.index].attempt_all(shared, known))
        except Exception as error:  # noqa: BLE001 - whatever the user's function raised
            raise _FailedError(self.failure(error, step, index)) from None
        if order is not None:
            keep_map(self, step, order, self.rows(step, known))
        return lists


class _FailedError(Exception):
    """Carries a failure through the coroutines here."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure


def _taken(entries: Iterator[Entry]) -> list[Entry]:
    """Take some items: those that come at once, and at least one if there is one."""
    taken: list[Entry] = []
    enough = perf_counter() + PATIENCE
    for entry in islice(entries, MOST_AT_ONCE):
        taken.append(entry)
        if perf_counter() > enough:
            break
    return taken


def _unstable(step: Step, parameter: str, reason: str) -> str:
    where = f"node {step.path[-1]!r} of pipeline {' > '.join(step.path[:-1])!r}"
    return f"{where} is not cached in this run, because of its parameter {parameter!r}: {reason}"
