"""What a run would find in the cache, and why not: the same signatures, nothing run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from hypernodes._engine.caching.engine import CachingEngine
from hypernodes._engine.caching.keys import UNSTABLE, output_key, signature
from hypernodes._engine.caching.prepared import Once
from hypernodes._engine.caching.presence import has_items, present
from hypernodes._engine.caching.records import CODE, SALT, node_name, parts_of
from hypernodes.exceptions import hint

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence

    from hypernodes._engine.caching.keys import Key, Keys
    from hypernodes._engine.caching.prepared import Prepared
    from hypernodes._engine.kernel import PipelineExecutionEngine
    from hypernodes._engine.plan import Step

_HEAD: Final = ("node", "status", "changed")


class Entry(NamedTuple):
    """What is to be expected of one node.

    Attributes:
        status: `"hit"`, `"miss"`, `"uncached"` or `"given"`.
        changed: For a miss, what differs from the nearest earlier entry: `"code"`, inputs by their
            names, nodes before it by theirs; empty where there is no earlier entry.
    """

    status: str
    changed: tuple[str, ...] = ()


class Explanation(Mapping[str, Entry]):
    """What a run would find in the cache: a mapping of node names to `(status, changed)`.

    Nodes of pipelines inside are called by their path, such as `"inner.clean"`, and nodes of one
    name in one pipeline by name and output, such as `"clean[left]"`. It prints as a table.

    Args:
        entries: What is to be expected, by name.
        by_type: What counts by its type only, by the name of the node that uses it.

    Attributes:
        by_type: For nodes whose code uses globals or closure values without a stable identity (a
            logger, a client), the names of these: a change in them is not noticed.
    """

    def __init__(
        self, entries: Mapping[str, Entry], by_type: Mapping[str, tuple[str, ...]]
    ) -> None:
        self._entries = dict(entries)
        self.by_type: dict[str, tuple[str, ...]] = dict(by_type)

    def __getitem__(self, name: str) -> Entry:
        try:
            return self._entries[name]
        except KeyError:
            raise KeyError(f"no node {name!r}; {hint(name, self._entries)}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        rows = [_HEAD, *((n, e.status, ", ".join(e.changed)) for n, e in self._entries.items())]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        lines += [
            f"{node} counts by type only: {', '.join(names)}"
            for node, names in self.by_type.items()
        ]
        return "\n".join(lines)


def explain(
    engine: PipelineExecutionEngine, inputs: Mapping[str, Any], given: Iterable[str]
) -> Explanation:
    """Return what a run would find.

    Args:
        engine: Runs the plan.
        inputs: The inputs of the run.
        given: The names of nodes that are replaced by values.
    """
    steps = engine.plan.steps
    entries = {name: Entry("given") for name in given}
    names = _names(steps)
    if not isinstance(engine, CachingEngine):
        return Explanation(entries | {name: Entry("uncached") for name in names}, {})
    prepared = engine.prepared_with(inputs, _Silent())
    signer = _Signer(engine, prepared, names)
    found = signer.found()
    for step, name in zip(steps, names, strict=True):
        entries[name] = signer.entry(step, found)
    by_type = {names[index]: each for index, each in engine.by_type.items() if each}
    return Explanation(entries, by_type)


class _Silent(Once):
    """Explains instead of warning."""

    def warn(self, about: Hashable, message: Callable[[], str]) -> None:
        del about, message


class _Signer:
    """The signatures of a plan, as far as they are known before anything runs."""

    def __init__(self, engine: CachingEngine, inputs: Prepared, names: Sequence[str]) -> None:
        self.made: dict[int, str] = {}
        self._engine = engine
        self._inputs = inputs
        self._codes = inputs.codes
        self._names = names
        self._keys: Keys = inputs.slot_keys.copy()
        for step in engine.plan.steps:
            self._sign(step)

    def _sign(self, step: Step) -> None:
        keys = self._taken(step)
        start = self._codes.prefixes[step.index]
        if start and all(keys):
            made = self.made[step.index] = signature(start, [key for key in keys if key])
            for place, slot in enumerate(step.outputs):
                self._keys[slot] = output_key(made, place, step)

    def _taken(self, step: Step) -> list[Key | None]:
        return [self._keys[argument.slot] for argument in step.arguments]

    def found(self) -> dict[int, bool]:
        """Return which steps a run would find, by the index of the step."""
        steps, maps = self._engine.plan.steps, self._engine.signed_maps
        wanted = [(steps[index], made) for index, made in self.made.items()]
        there = present(self._engine, wanted, self._inputs.once)
        found = dict(zip(self.made, there, strict=True))
        values = self._engine.plan.values(self._inputs, {})
        for index in maps & self.made.keys():
            found[index] = found[index] or has_items(
                self._engine, steps[index], values, self._keys, self._inputs
            )
        return found

    def entry(self, step: Step, found: Mapping[int, bool]) -> Entry:
        """Return what is to be expected of a step.

        Args:
            step: The step.
            found: Whether it is there, by the index of the step.
        """
        if step.index in found:
            return Entry("hit") if found[step.index] else Entry("miss", self._changed(step))
        keys = self._taken(step)
        if UNSTABLE in keys or not self._codes.prefixes[step.index]:
            return Entry("uncached")
        return Entry("miss", self._shown(step, [key is None for key in keys]))

    def _changed(self, step: Step) -> tuple[str, ...]:
        scheme, shelf = self._engine.scheme, self._engine.shelf(step)
        code = self._codes.parts[step.index]
        parts = parts_of(scheme, step, code, shelf.salt, [key or "" for key in self._taken(step)])
        nearest = shelf.cache.nearest(node_name(step), parts)
        if nearest is None:
            return ()
        changed = set(nearest.changed(parts))
        labels = scheme.labels[step.index]
        first = [name for name in (CODE, SALT) if name in changed]
        rest = sorted(changed - {CODE, SALT} - set(labels))  # no longer taken
        return (*first, *self._shown(step, [name in changed for name in labels]), *rest)

    def _shown(self, step: Step, picked: Iterable[bool]) -> tuple[str, ...]:
        """Return what users call some of the arguments: inputs, or nodes that make them."""
        makers = self._engine.scheme.makers
        names: dict[str, None] = {}
        for argument, name, is_picked in zip(
            step.arguments, self._engine.scheme.labels[step.index], picked, strict=True
        ):
            maker = makers.get(argument.slot)
            if is_picked:
                names[name if maker is None else self._names[maker.index]] = None
        return tuple(names)


def _names(steps: Sequence[Step]) -> list[str]:
    """Return a name for each step: its path, and its outputs where that is not enough."""
    paths = [".".join(step.path[1:]) for step in steps]
    count = Counter(paths)
    return [
        path if count[path] == 1 else f"{path}[{', '.join(step.node.output_names)}]"
        for path, step in zip(paths, steps, strict=True)
    ]
