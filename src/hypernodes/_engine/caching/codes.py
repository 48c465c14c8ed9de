"""What the signatures of a plan's steps begin with: read once, and looked at again for each run."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from hypernodes._engine.caching.keys import prefix
from hypernodes._engine.caching.prepared import Codes
from hypernodes._engine.caching.scheme import parameters
from hypernodes._node import Node
from hypernodes.cache._code import CodeHash
from hypernodes.cache._exact import ExactSnapshot
from hypernodes.cache._parts import NoStableIdentityError
from hypernodes.cache._remembered import CodeMemory
from hypernodes.cache._trouble import warn_about
from hypernodes.cache._values import value_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from hypernodes._engine.caching.keyed import KeyedEngine
    from hypernodes._engine.caching.keys import Keys
    from hypernodes._engine.caching.prepared import Oath
    from hypernodes._engine.plan import Inner, Plan, Step
    from hypernodes.cache._code import CodeSnapshot

MEMORY: Final = CodeMemory()


class CodeReader:
    """Reads what the signatures of one plan begin with.

    Args:
        engine: Runs the plan.

    Attributes:
        by_type: What the code of steps uses that counts by its type, by the index of the step.
    """

    def __init__(self, engine: KeyedEngine) -> None:
        self._engine = engine
        self._last: tuple[Any, Codes] | None = None
        self.by_type: dict[int, tuple[str, ...]] = {}
        self._sworn: tuple[Codes, Oath] | None = None
        steps = engine.plan.steps
        self._calls = [step for step in steps if isinstance(step.node, Node) and self._counts(step)]

    def _counts(self, step: Step) -> bool:
        return self._engine.scheme.signed[step.index]

    def read(self, snapshot: CodeSnapshot) -> Codes:
        """Return the prefixes as they are now.

        Args:
            snapshot: Reads what has to be read.
        """
        engine = self._engine
        found = [_described(step, snapshot) for step in self._calls]
        inner = {index: each.codes(snapshot) for index, each in engine.inner_engines.items()}
        maps = {index: self._map_prefix(index, inner[index]) for index in engine.signed_maps}
        facts = found, inner, maps
        if self._last is None or self._last[0] != facts:
            self._last = facts, self._put_together(found, inner, maps)
        return self._last[1]

    def oath(self, codes: Codes) -> Oath:
        """Return what the code of each function is, exactly as it runs here.

        Args:
            codes: What signatures begin with now.
        """
        if self._sworn is None or self._sworn[0] is not codes:
            self._sworn = codes, self.read_exactly(ExactSnapshot())
        return self._sworn[1]

    def read_exactly(self, snapshot: ExactSnapshot) -> Oath:
        """Return the same, read anew.

        Args:
            snapshot: Reads it.
        """
        return tuple([_sworn(each, snapshot) for each in _functions(self._engine.plan)])

    def _put_together(
        self, found: list[CodeHash], inner: Mapping[int, Codes], maps: Mapping[int, str]
    ) -> Codes:
        count = len(self._engine.plan.steps)
        prefixes, parts = [""] * count, [""] * count
        for step, code in zip(self._calls, found, strict=True):
            salt = self._engine.shelf(step).salt
            names = tuple(own for own, _ in parameters(step))
            outputs = len(step.outputs) if step.unpacks else None
            if code.digest:
                prefixes[step.index] = prefix("call", salt, code.digest, names, outputs)
            parts[step.index] = code.digest
            self.by_type[step.index] = code.by_type
        for index, start in maps.items():
            prefixes[index] = parts[index] = start
        return Codes(tuple(prefixes), tuple(parts), inner)

    def _map_prefix(self, index: int, codes: Codes) -> str:
        """Return the prefix of a map: all that is inside, as far as it is not each item's own."""
        step = self._engine.plan.steps[index]
        inner, engine = step.inner, self._engine.inner_engines[index]
        assert inner is not None  # noqa: S101 - a map has a pipeline inside
        try:
            results, bound = _results(engine, inner, codes), _bound(inner)
        except NoStableIdentityError:
            return ""  # told of where it is used, inside
        if results is None:
            return ""
        salt = self._engine.shelf(step).salt
        shape = inner.map_mode, inner.map_over, inner.inputs, inner.given
        return prefix("map", salt, *shape, bound, results)


def _functions(plan: Plan) -> Iterator[Any]:
    """Yield the functions of a plan that may be kept somewhere; the same ones in every process."""
    for step in plan.steps:
        if isinstance(step.node, Node) and step.node.cache:
            yield step.node.func
        if step.inner is not None and step.inner.maps_alike:
            yield from _functions(step.inner.item_engine.plan)


def _described(step: Step, snapshot: CodeSnapshot) -> CodeHash:
    """Return what the code of a step hashes to; without a digest where it cannot be read."""
    try:
        return MEMORY.describe(step.node.func, snapshot)  # type: ignore[attr-defined]
    except Exception as error:  # noqa: BLE001 - what code uses may raise anything where it is read
        name = ".".join(step.path[1:])
        why = f"{name}: not cached, its code cannot be read: {type(error).__name__}: {error}"
        warn_about(("code", step.path), why)
        return CodeHash("", ())


def _sworn(function: Any, snapshot: ExactSnapshot) -> tuple[str, str]:
    module, name = (getattr(function, n, "") for n in ("__module__", "__qualname__"))
    with suppress(Exception):  # told of where it is described
        return f"{module}.{name}", snapshot.describe(function).digest
    return f"{module}.{name}", ""


def _results(engine: KeyedEngine, inner: Inner, codes: Codes) -> tuple[str, ...] | None:
    """Return the keys of what a plan gives, with names in the place of its inputs' keys."""
    if not all(codes.prefixes[step.index] for step in engine.scheme.static):
        return None
    plan = engine.plan
    keys: Keys = [None] * plan.slots
    for name, slot in (plan.shared | plan.mapped).items():
        keys[slot] = f"<{name.encode().hex()}>"
    for slot, value in plan.constants.items():
        keys[slot] = value_key(value)
    keys = engine.scheme.program(codes.prefixes, keys)
    return tuple(str(keys[plan.results[name]]) for name in inner.outputs)


def _bound(inner: Inner) -> tuple[tuple[str, str], ...]:
    """Return what is mapped over and bound inside, by name and key."""
    bound = inner.pipeline.bound
    names = [name for name in inner.map_over if name not in inner.inputs]
    return tuple((name, value_key(bound[name])) for name in names)
