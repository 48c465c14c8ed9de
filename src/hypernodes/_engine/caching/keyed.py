"""What the kernel for plans with a cache knows: of the plan, of a run, of an item."""

from __future__ import annotations

from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from hypernodes._engine.caching.arrival import other_code, welcome
from hypernodes._engine.caching.changes import Guard
from hypernodes._engine.caching.codes import CodeReader
from hypernodes._engine.caching.keys import UNSTABLE
from hypernodes._engine.caching.orders import Order
from hypernodes._engine.caching.prepared import Carried, Item, Once, Prepared
from hypernodes._engine.caching.resolver import Resolver
from hypernodes._engine.caching.scheme import Scheme, parameters
from hypernodes._engine.caching.shelf import Shelf
from hypernodes._engine.flights import FLIGHTS
from hypernodes._engine.kernel import PipelineExecutionEngine
from hypernodes._engine.retry import policy_of
from hypernodes._node import Node
from hypernodes.cache._code import CodeSnapshot
from hypernodes.cache._values import SOLID, has_changed, mark_of, value_key

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from hypernodes._engine.caching.keys import Key, Keys
    from hypernodes._engine.caching.prepared import Codes, Doubt, Oath
    from hypernodes._engine.plan import Slot, Step
    from hypernodes.cache._exact import ExactSnapshot
    from hypernodes.cache._walk import Identify


class KeyedEngine(PipelineExecutionEngine):
    """Knows what everything in a plan is called in a cache, before it is there."""

    # ------------------------------------------------------------ what is known of the plan

    @cached_property
    def inner_engines(self) -> dict[int, KeyedEngine]:
        """What runs the items of maps that use a cache, by the index of the mapped step.

        Also of those that another executor runs, as long as that has the same config: keys are the
        same there.
        """
        engines = {
            step.index: step.inner.item_engine
            for step in self.plan.steps
            if step.inner is not None and step.inner.maps_alike
        }
        return {i: engine for i, engine in engines.items() if isinstance(engine, KeyedEngine)}

    @cached_property
    def signed_maps(self) -> frozenset[int]:
        """The indexes of mapped steps whose outputs can be told from the keys of their inputs."""
        engines = self.inner_engines.items()
        told = {i for i, engine in engines if engine.scheme.is_static and engine.scheme.ends}
        return frozenset(i for i in told if self.plan.steps[i].cached)

    @cached_property
    def scheme(self) -> Scheme:
        """How the steps are keyed."""
        maps = {step.index for step in self.plan.steps if step.inner and step.inner.map_over}
        return Scheme(self.plan, frozenset(maps - self.signed_maps))

    @property
    def is_tied(self) -> bool:
        signed = [step for step in self.plan.steps if self.scheme.signed[step.index]]
        inner = self.inner_engines.values()
        return any(self.shelf(step).is_tied for step in signed) or any(e.is_tied for e in inner)

    @cached_property
    def _shelves(self) -> dict[int, Shelf]:
        return {}

    @cached_property
    def only_shelf(self) -> Shelf | None:
        """The cache of all steps, if they have one in common."""
        steps = [step for step in self.plan.steps if self.scheme.signed[step.index]]
        shelves = {self.shelf(step) for step in steps}
        return shelves.pop() if len(shelves) == 1 else None

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
        if isinstance(inputs, Prepared):
            return inputs
        if isinstance(inputs, Carried):
            return self._taken_over(inputs)
        return self.prepared_with(inputs, Once())

    def _taken_over(self, inputs: Carried) -> Prepared:
        """Return inputs with what is known of them where they come from."""
        before, item, there = inputs.prepared, inputs.item, inputs.plan
        slots = there.shared | there.mapped
        keys = {name: item.slot_keys[slot] for name, slot in slots.items()}
        known = {name: key for name, key in keys.items() if key is not None}
        snapshot = CodeSnapshot()
        alike = [s.node for s in there.steps] == [s.node for s in self.plan.steps]
        codes = before.codes if alike else self.codes(snapshot)
        prepared = self.prepared_from(inputs, codes, before.once, known, snapshot.identify)
        prepared.found = item.found if alike else {}
        return prepared

    def prepared_with(self, inputs: Mapping[str, Any], once: Once) -> Prepared:
        """Return inputs with what is to be known of them; see `prepared`.

        Args:
            inputs: The inputs.
            once: Warns of what has no identity.
        """
        snapshot = CodeSnapshot()
        return self.prepared_from(inputs, self.codes(snapshot), once, {}, snapshot.identify)

    @property
    def by_type(self) -> dict[int, tuple[str, ...]]:
        """What the code of steps uses that counts by its type only, by the index of the step."""
        return self._reader.by_type

    def shared_inputs(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        prepared = self.prepared(inputs)
        return prepared.shipped(self.plan.shared, self._reader.oath(prepared.codes))

    def read_exactly(self, snapshot: ExactSnapshot) -> Oath:
        """Return what the code of functions is, exactly as it runs here.

        Args:
            snapshot: Reads it.
        """
        return self._reader.read_exactly(snapshot)

    def strangers(self, inputs: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
        return welcome(self._reader, self.prepared(inputs).oath)

    def doubt(
        self, inputs: Mapping[str, Any], strangers: Sequence[str] = (), *, is_lasting: bool = False
    ) -> Doubt | None:
        if strangers:
            return other_code(strangers, is_lasting=is_lasting)
        prepared = self.prepared(inputs)
        guard = self._guard(prepared)
        guard.before_call()
        changed = guard.changed.union(self._noted)
        if not changed or not prepared.once.is_trusted:
            return None
        return self._change(min(changed))

    def distrust(self, inputs: Mapping[str, Any], doubt: Doubt) -> None:
        self.prepared(inputs).once.distrust(doubt)

    def warn(self, inputs: Mapping[str, Any], about: Hashable, message: str) -> None:
        self.prepared(inputs).once.warn(about, lambda: message)

    def prepared_from(
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
        plan, keyed = self.plan, self._keyed_slots
        keys: Keys = [None] * plan.slots
        for name, slot in plan.shared.items():
            if name in known:
                keys[slot] = known[name]
            elif slot in keyed:
                keys[slot] = self._tell(once, slot, inputs[name], identify)
        for slot, value in plan.constants.items():
            if slot in keyed:
                keys[slot] = self._tell(once, slot, value, identify)
        signed = all(codes.prefixes[step.index] for step in self.scheme.static)
        is_sound = signed and UNSTABLE not in keys
        prepared = Prepared(inputs, codes, keys, once, is_sound=is_sound)
        prepared.borrowed = frozenset(known)
        return prepared

    @cached_property
    def _keyed_slots(self) -> dict[Slot, list[tuple[Step, int]]]:
        """The slots that signed steps take: by which, and at which place."""
        takers: dict[Slot, list[tuple[Step, int]]] = {}
        for step in self.plan.steps:
            for place, argument in enumerate(step.arguments):
                if self.scheme.signed[step.index]:
                    takers.setdefault(argument.slot, []).append((step, place))
        return takers

    @cached_property
    def _keyed_names(self) -> list[tuple[str, Slot]]:
        """Those of an item's own inputs that signed steps take."""
        return [(n, slot) for n, slot in self.plan.mapped.items() if slot in self._keyed_slots]

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
        keys, is_sound = inputs.slot_keys.copy(), inputs.is_sound
        for name, slot in self._keyed_names:
            key = keys[slot] = self._tell(inputs.once, slot, item[name], identify)
            is_sound = is_sound and bool(key)
        if is_sound:
            keys = self.scheme.program(inputs.codes.prefixes, keys)
        made = Item(item, keys, FLIGHTS.now())
        made.found |= inputs.found
        return made

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
        code, is_sound = inputs.codes.parts[step.index], not resolver.takes_replaced(step)
        return Order(made, code, taken, item.since, inputs.once, is_sound, self._guard(inputs))

    # ------------------------------------------------------------ what nodes change in place

    def check_arguments(self, step: Step, resolver: Resolver, inputs: Prepared) -> None:
        """Hold what a step takes against what it was, before it runs; see `changes`.

        Args:
            step: The step.
            resolver: What has come so far.
            inputs: The inputs.
        """
        guard = self._guard(inputs)
        guard.before_call()
        for slot in self.scheme.takes[step.index]:
            value = resolver.values[slot]
            if type(value) in SOLID or slot not in self._keyed_slots:
                continue
            if slot in guard.changed or self._has_changed(slot, value, resolver):
                self._replace(slot, resolver, inputs)

    def recheck_arguments(self, step: Step, resolver: Resolver, inputs: Prepared) -> None:
        """Do the same after a step has run beside others, and remove what was kept of it.

        Args:
            step: The step.
            resolver: What has come so far.
            inputs: The inputs.
        """
        marks, values = resolver.marks, resolver.values
        slots = [slot for slot in self.scheme.takes[step.index] if slot in marks]
        changed = [slot for slot in slots if has_changed(values[slot], marks[slot])]
        for slot in changed:
            self._replace(slot, resolver, inputs)
        made = resolver.made.get(step.index)
        if changed and made:
            self.shelf(step).remove(made)

    def marks(self, step: Step, values: Mapping[Slot, Any]) -> list[str | None]:
        """Return what changes with what a step takes, if it may take it again in another attempt.

        Args:
            step: The step.
            values: What it takes, by slot.
        """
        if step.index not in self._retried:
            return []
        return [mark_of(values[slot]) for slot in self.scheme.takes[step.index]]

    def are_unchanged(
        self, step: Step, values: Mapping[Slot, Any], marks: Sequence[str | None], once: Once
    ) -> bool:
        """Tell whether a step has left what it takes as it was; warn if it has not.

        Args:
            step: The step.
            values: What it takes, by slot.
            marks: What `marks` has returned before the step ran.
            once: Warns.
        """
        changed = self._changed(step, values, marks)
        for slot in changed:
            about, message = self._change(slot)
            once.warn(about, lambda message=message: message)  # type: ignore[misc]
        return not changed

    def note_changes(
        self, step: Step, values: Mapping[Slot, Any], marks: Sequence[str | None]
    ) -> None:
        """Do the same for a step that somebody else keeps: `doubt` tells.

        Args:
            step: The step.
            values: What it takes, by slot.
            marks: What `marks` has returned before the step ran.
        """
        self._noted.update(self._changed(step, values, marks))

    def _changed(
        self, step: Step, values: Mapping[Slot, Any], marks: Sequence[str | None]
    ) -> list[Slot]:
        pairs = zip(self.scheme.takes[step.index], marks, strict=False)
        return [s for s, mark in pairs if has_changed(values[s], mark) and s in self._keyed_slots]

    @cached_property
    def _noted(self) -> set[Slot]:
        """The slots of values that were changed by steps that are kept elsewhere."""
        return set()

    @cached_property
    def _retried(self) -> frozenset[int]:
        """The steps that may be attempted again."""
        nodes = [(step, step.node) for step in self.plan.steps if isinstance(step.node, Node)]
        each = ((s, s.config.retries if n.retries is None else n.retries) for s, n in nodes)
        return frozenset(step.index for step, retries in each if policy_of(retries) is not None)

    def _has_changed(self, slot: Slot, value: Any, resolver: Resolver) -> bool:
        if slot in self._own_slots:
            return has_changed(value, resolver.keys[slot])
        if slot not in self.scheme.forks:
            return False
        if slot not in resolver.marks:
            resolver.marks[slot] = mark_of(value)
            return False
        return has_changed(value, resolver.marks[slot])

    def _replace(self, slot: Slot, resolver: Resolver, inputs: Prepared) -> None:
        resolver.replace(slot)
        self._tell_changed(slot, inputs)

    def _tell_changed(self, slot: Slot, inputs: Prepared) -> None:
        about, message = self._change(slot)
        inputs.once.warn(about, lambda: message)

    def _change(self, slot: Slot) -> Doubt:
        step, place = self._keyed_slots[slot][0]
        name = parameters(step)[place][1]
        return ("changed", *step.path[:-1], name), _changed(step, name)

    @cached_property
    def _own_slots(self) -> frozenset[Slot]:
        """Where an item's own inputs are."""
        return frozenset(self.plan.mapped.values())

    def _guard(self, inputs: Prepared) -> Guard:
        if inputs.guard is None:
            plan, keyed = self.plan, self._keyed_slots
            given = {slot: inputs[name] for name, slot in plan.shared.items()} | plan.constants
            lent = {slot for name, slot in plan.shared.items() if name in inputs.borrowed}
            soft = {s: v for s, v in given.items() if s in keyed and type(v) not in SOLID}
            own = inputs.slot_keys
            marks = {s: mark_of(value) if s in lent else own[s] for s, value in soft.items()}
            inputs.guard = Guard(soft, marks)
        return inputs.guard

    def finish(self, inputs: Mapping[str, Any]) -> None:
        if not isinstance(inputs, Prepared):
            return
        if inputs.guard is not None:
            inputs.guard.finish()
            for slot in inputs.guard.changed:
                self._tell_changed(slot, inputs)
        inputs.once.finish()


def _changed(step: Step, name: str) -> str:
    where = f"pipeline {' > '.join(step.path[:-1])!r}"
    return (
        f"{name!r}, which node {step.path[-1]!r} of {where} takes, was changed in place by a node: "
        f"what was made of it after that is not kept; let nodes return new values instead"
    )


def _unstable(step: Step, parameter: str, reason: str) -> str:
    where = f"node {step.path[-1]!r} of pipeline {' > '.join(step.path[:-1])!r}"
    return f"{where} is not cached in this run, because of its parameter {parameter!r}: {reason}"
