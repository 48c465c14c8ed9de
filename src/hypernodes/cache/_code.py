"""What code hashes to: a function's own, and that of everything of the user's that it uses.

A code object is *read* once: its normalised source, or where there is none its bytecode, and the
names that it looks up. A definition (a function, class or module of the user's own) is *described*
at each call: what it is by itself, and the values that its names have now. What it uses is
described in turn, until all that can be reached is known. Then definitions are *labelled* from the
bottom up; those that use one another in a circle are labelled together, by refining what tells them
apart until nothing more does (partition refinement, as for finite automata).

What is not the user's own, that is of the standard library, of an installed package or of this one,
counts by its name and by the version of what it came with.
"""

from __future__ import annotations

import functools
import operator
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple

from hypernodes.cache._encoding import digest
from hypernodes.cache._origin import foreign_name
from hypernodes.cache._parts import Manner
from hypernodes.cache._uses import contents, documentation
from hypernodes.cache._walk import encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Self

    from hypernodes.cache._uses import Contents
    from hypernodes.cache._walk import Identify

__all__ = ["CodeHash", "CodeSnapshot", "describe_code", "hash_code"]


class CodeHash(NamedTuple):
    """What a callable's code hashes to.

    Attributes:
        digest: A lowercase hex string of 64 characters.
        by_type: The names of what has no stable identity, such as a logger: it counts by its type.
    """

    digest: str
    by_type: tuple[str, ...]


def hash_code(function: Callable[..., Any]) -> str:
    """Return what the code of `function`, and all of the user's code that it uses, hashes to.

    Comments, formatting, the place in the file, and decorators that leave no trace do not count.
    Defaults, closures, globals, helpers and classes do, as they are now. So do the docstrings of
    classes, and those of functions where any of the code looks at docstrings.

    Args:
        function: Any callable: a function, method, partial, class, callable object, builtin.

    Returns:
        A lowercase hex string of 64 characters.

    Example:
        >>> hash_code(lambda x: x + 1) == hash_code(lambda x: (x + 1))
        True
    """
    return CodeSnapshot().describe(function).digest


def describe_code(function: Callable[..., Any]) -> CodeHash:
    """Return what `hash_code` does, and the names of what counts by its type only.

    Args:
        function: Any callable.
    """
    return CodeSnapshot().describe(function)


class _Reach(NamedTuple):
    """What is known of all that a definition uses, directly or not.

    Attributes:
        by_type: The names of what counts by its type.
        is_curious: Whether any of it looks at docstrings or annotations.
    """

    by_type: frozenset[str] = frozenset()
    is_curious: bool = False

    def __or__(self, other: _Reach) -> _Reach:
        return _Reach(self.by_type | other.by_type, self.is_curious or other.is_curious)


_NOTHING: Final = _Reach()


class CodeSnapshot:
    """Code as it is at one moment: each definition is read once, however often it is used.

    Keep one for as long as nothing is rebound or mutated, such as while a run is planned.

    Args:
        is_documented: Whether the docstrings of functions count, and what annotations name.

    Example:
        >>> snapshot = CodeSnapshot()
        >>> snapshot.describe(len) == describe_code(len)
        True
    """

    _manner: ClassVar = Manner.CODE

    def __init__(self, *, is_documented: bool = False) -> None:
        self._is_documented = is_documented
        self._labels: dict[int, bytes] = {}
        self._reaches: dict[int, _Reach] = {}
        self._kept: list[Any] = []

    def describe(self, function: Callable[..., Any]) -> CodeHash:
        """Return what `function` hashes to; see `hash_code`.

        Args:
            function: Any callable.
        """
        by_type: set[str] = set()
        reaches: list[_Reach] = []

        def identify(definition: Any) -> bytes:
            label = self._label_of(definition)
            reaches.append(self._reaches.get(id(definition), _NOTHING))
            return label

        def on_unstable(part: Any, path: str) -> bytes:
            by_type.add(path.lstrip("."))
            return self._stand_in(part, identify)

        encoding = encode(function, identify=identify, on_unstable=on_unstable, manner=self._manner)
        reach = functools.reduce(operator.or_, reaches, _Reach(frozenset(by_type)))
        if reach.is_curious and not self._is_documented:
            return self._documented.describe(function)
        return CodeHash(digest(b"code", encoding).hex(), tuple(sorted(reach.by_type)))

    def identify(self, definition: Any) -> bytes:
        """Return the label of a class, function or module in a value: 32 bytes.

        Who gets the value may look at docstrings, so they count.

        Args:
            definition: One of the user's own, or anybody else's.
        """
        return self._documented._label_of(definition)  # noqa: SLF001  # one of its own kind

    @functools.cached_property
    def _documented(self) -> Self:
        return self if self._is_documented else type(self)(is_documented=True)

    def _label_of(self, definition: Any) -> bytes:
        known = self._labels.get(id(definition))
        return known or self._foreign_label(definition) or self._explore(definition)

    def _foreign_label(self, definition: Any) -> bytes | None:
        """Return the label of what counts by its name, or None for what does by its content."""
        name = foreign_name(definition)
        if name is None:
            return None
        return self._keep(definition, digest(b"foreign", *[part.encode() for part in name]))

    def _keep(self, definition: Any, label: bytes) -> bytes:
        self._labels[id(definition)] = label
        self._kept.append(definition)
        return label

    def _explore(self, root: Any) -> bytes:
        """Describe and label all that can be reached from `root`; return its label."""
        found: dict[int, _Description] = {}
        pending = [root]
        while pending:
            definition = pending.pop()
            if id(definition) not in found:
                found[id(definition)] = description = self._describe(definition)
                pending += description.targets
        components = _components(found, id(root)) if len(found) > 1 else [[*found.values()]]
        for component in components:
            self._settle(component)
        return self._labels[id(root)]

    def _describe(self, definition: Any) -> _Description:
        own, uses, is_curious = self._contents(definition)
        description = _Description(own, definition, _Reach(is_curious=is_curious))
        for name, value in uses:
            self._add_use(description, name, value)
        for name, value in documentation(definition) if self._is_documented else ():
            self._add_use(description, name, value)
        return description

    def _contents(self, definition: Any) -> Contents:
        return contents(definition, self._label_of)

    def _stand_in(self, part: Any, identify: Identify) -> bytes:
        """Return what to put for a value without a stable identity."""
        return identify(type(part))

    def _add_use(self, description: _Description, name: str, value: Any) -> None:
        """Note the encoding of `value`, or the value itself where it waits for labels."""
        before = len(description.targets)

        def identify(definition: Any) -> bytes:
            label = self._labels.get(id(definition)) or self._foreign_label(definition)
            if label is None:
                description.targets.append(definition)
            else:
                description.reach |= self._reaches.get(id(definition), _NOTHING)
            return label or b""

        def on_unstable(part: Any, path: str) -> bytes:
            if not name.startswith("__"):
                description.reach |= _Reach(frozenset([f"{name}{path}".lstrip(".")]))
            return self._stand_in(part, identify)

        encoding = encode(value, identify=identify, on_unstable=on_unstable, manner=self._manner)
        waits = len(description.targets) > before
        description.uses.append((name.encode(), value, None if waits else encoding))

    def _label(self, description: _Description, so_far: bytes = b"") -> bytes:
        parts = [so_far]
        for name, value, encoding in description.uses:
            parts += (name, encoding or self._encode(value))
        return digest(description.own, *parts)

    def _encode(self, value: Any) -> bytes:
        def identify(definition: Any) -> bytes:
            return self._labels.get(id(definition)) or self._foreign_label(definition) or b""

        def on_unstable(part: Any, path: str) -> bytes:
            del path
            return self._stand_in(part, identify)

        return encode(value, identify=identify, on_unstable=on_unstable, manner=self._manner)

    def _settle(self, component: list[_Description]) -> None:
        """Label definitions that use one another in a circle, or a single one."""
        if len(component) == 1 and not component[0].uses_itself:
            labels = [self._label(component[0])]
        else:
            labels = self._refine(component)
        reach = self._gathered(component)
        for description, label in zip(component, labels, strict=True):
            self._keep(description.definition, label)
            self._reaches[id(description.definition)] = reach

    def _refine(self, component: list[_Description]) -> list[bytes]:
        """Tell definitions apart by what they use, by what that uses, and so on.

        No more classes than in the round before means that no further round would find any. The set
        of all classes goes into each label, so that labels of different circles compare.
        """
        labels = [description.own for description in component]
        classes = 0
        while len(set(labels)) > classes:
            classes = len(set(labels))
            for description, label in zip(component, labels, strict=True):
                self._labels[id(description.definition)] = label
            labels = [
                self._label(description, label)
                for description, label in zip(component, labels, strict=True)
            ]
        everything = sorted(set(labels))
        return [digest(b"circle", label, *everything) for label in labels]

    def _gathered(self, component: list[_Description]) -> _Reach:
        reach = _NOTHING
        for description in component:
            reach |= description.reach
            for target in description.targets:
                reach |= self._reaches.get(id(target), _NOTHING)
        return reach


class _Description:
    """A definition, what it is by itself, and what it uses."""

    __slots__ = ("definition", "own", "reach", "targets", "uses")

    def __init__(self, own: bytes, definition: Any, reach: _Reach) -> None:
        self.own = own
        self.definition = definition
        self.reach = reach
        self.uses: list[tuple[bytes, Any, bytes | None]] = []
        self.targets: list[Any] = []

    @property
    def uses_itself(self) -> bool:
        return any(target is self.definition for target in self.targets)


def _components(found: Mapping[int, _Description], root: int) -> Iterator[list[_Description]]:
    """Yield the circles (strongly connected components), those that others use first.

    Tarjan's algorithm with an explicit stack. R. Tarjan, Depth-first search and linear graph
    algorithms, SIAM J. Comput. 1 (1972).
    """
    order = {root: 0}
    lowest = {root: 0}
    open_nodes = [root]
    path = [(root, _neighbours(found, root))]
    while path:
        node, targets = path[-1]
        target = next((each for each in targets if each in lowest or each not in order), None)
        if target is None:
            path.pop()
            if path:
                lowest[path[-1][0]] = min(lowest[path[-1][0]], lowest[node])
            if lowest[node] == order[node]:
                yield [found[member] for member in _cut(open_nodes, node, lowest)]
        elif target in lowest:
            lowest[node] = min(lowest[node], order[target])
        else:
            order[target] = lowest[target] = len(order)
            open_nodes.append(target)
            path.append((target, _neighbours(found, target)))


def _neighbours(found: Mapping[int, _Description], node: int) -> Iterator[int]:
    return (id(target) for target in found[node].targets if id(target) in found)


def _cut(open_nodes: list[int], node: int, lowest: dict[int, int]) -> list[int]:
    """Take a circle, from `node` on, from what is still open."""
    members = open_nodes[open_nodes.index(node) :]
    del open_nodes[-len(members) :]
    for member in members:
        del lowest[member]
    return members
