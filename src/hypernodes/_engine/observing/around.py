"""What is called around nodes: hooks that set up where a node runs, and `wrap_node`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from hypernodes._engine.calls import unpack
from hypernodes._engine.observing.witness import Witness, clock
from hypernodes.cache._values import mark_of
from hypernodes.callbacks import CallbackContext

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypernodes._engine.observing.script import Cue
    from hypernodes._engine.plan import Step
    from hypernodes._node import Node

    Call = Callable[..., Any]


class Replaced:
    """What hooks have put in the place of what a node has made.

    Args:
        value: The value.
    """

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value: Any = value


def set_up(witness: Witness, step: Step, cue: Cue) -> list[Callable[[], None]]:
    """Have hooks set up where a node runs; return what undoes that.

    These are no context managers: some change an error on its way, and not all errors let them.
    """
    if not cue.settings:
        return []
    ctx = CallbackContext(witness.stage.scene(step.index), step, clock(), witness.item_index)
    undo = [setting(ctx) for setting in cue.settings]
    if ctx.note is not None:
        witness.node_noted(step.index, ctx.note)
    return undo


def take_down(undo: list[Callable[[], None]]) -> None:
    """Undo what `set_up` has done."""
    for call in reversed(undo):
        call()


def called_around(call: Call, step: Step, node: Node, cue: Cue) -> Call:
    """Return what calls the `wrap_node` hooks, from the outside in, and `call` inside of them."""
    if not cue.wrappers:
        return lambda _witness, _inputs, args, kwargs: call(*args, **kwargs)

    is_kept = step.cached

    def around(witness: Witness, inputs: Any, args: Any, kwargs: Any) -> Any:
        scene = witness.stage.scene(step.index)
        ctx = CallbackContext(scene, step, clock(), witness.item_index, inputs)
        ctx.signature = witness.signature(step.index)
        made = _Made(is_kept, args, kwargs)

        def inside() -> Any:
            return made.call(call)

        called: Any = inside
        for wrapper in reversed(cue.wrappers):
            called = partial(wrapper, ctx, node, inputs, called)
        value = called()
        fitting = _fitting(value, node, step.path)
        return fitting if made.is_last(value) else Replaced(fitting)

    return around


class _Made:
    """What calls of a node have given, by which what hooks return is told from it.

    Args:
        is_kept: Whether it is kept in a cache: then it matters whether hooks have changed it, or
            what it is made of, in place.
        args: What the node is called with.
        kwargs: The same by keyword.
    """

    def __init__(self, is_kept: bool, args: Any, kwargs: Any) -> None:  # noqa: FBT001 - own
        self._mark_of = mark_of if is_kept else _no_mark
        self._args, self._kwargs = args, kwargs
        self._before = self._marks()
        self._values: list[Any] = []
        self._mark: str | None = None

    def _marks(self) -> list[str | None]:
        return list(map(self._mark_of, (*self._args, *self._kwargs.values())))

    def call(self, call: Call) -> Any:
        """Call the node, and note what it gives."""
        is_own = self._marks() == self._before
        value = call(*self._args, **self._kwargs)
        self._values = [value] if is_own else []
        self._mark = self._mark_of(value)
        return value

    def is_last(self, value: Any) -> bool:
        """Tell whether `value` is what the last call has given, unchanged."""
        is_same = any(value is made for made in self._values)
        return is_same and self._mark_of(value) == self._mark


def _no_mark(value: Any) -> None:
    del value


def _fitting(value: Any, node: Node, path: tuple[str, ...]) -> Any:
    """Return a value that a hook may have put in the place of another, unpacked."""
    if isinstance(node.output_name, str):
        return value
    return unpack(value, len(node.output_names), path)
