"""What a step calls when somebody observes it: the same, with a witness as first argument."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from hypernodes._cancel import Abandoned
from hypernodes._dispatch.session import Halted
from hypernodes._engine.calls import node_call, node_coroutine
from hypernodes._engine.failure import Faulted, error_of
from hypernodes._engine.observing.around import Replaced, called_around, set_up, take_down
from hypernodes._engine.observing.inside import called_inside
from hypernodes._engine.observing.witness import Witness, clock
from hypernodes._node import Node
from hypernodes.callbacks import REPORTER

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from hypernodes._engine.observing.script import Cue
    from hypernodes._engine.plan import Step
    from hypernodes.callbacks import Scene

    Call = Callable[..., Any]
    Read = Callable[[tuple[Any, ...], dict[str, Any]], "dict[str, Any]"]


_OUTERMOST: Final = 2
"""How many names lead to a node of the outermost pipeline."""


class Stand:
    """Where the code of a node stands: takes its reports, and counts its attempts.

    Args:
        witness: Who is told.
        index: The step.
        cue: What is to be told.
    """

    __slots__ = ("_around", "_cue", "_index", "_witness", "attempt")

    def __init__(self, witness: Witness, index: int, cue: Cue) -> None:
        self._witness = witness
        self._index = index
        self._cue = cue
        self._around = REPORTER.get()
        self.attempt = 1

    @property
    def scene(self) -> Scene:
        """The run that the node belongs to."""
        return self._witness.stage.scene(self._index)

    def reported(self, kind: str, data: dict[str, Any]) -> None:
        """Tell what the code reports; what nobody wants here is for the node around, if any."""
        if self._cue.reports:
            self._witness.reported(self._index, clock(), kind, data)
        elif self._around is not None:
            self._around.reported(kind, data)

    def retried(self, error: BaseException, attempt: int, delay: float) -> None:
        """Tell of a failed attempt that will be made again."""
        self.attempt = attempt + 1
        if self._cue.retries:
            self._witness.node_retried(self._index, clock(), error, attempt, delay)


def tell_retry(error: BaseException, attempt: int, delay: float) -> None:
    """Tell the stand of the current node of a failed attempt."""
    stand = REPORTER.get()
    if isinstance(stand, Stand):
        stand.retried(error, attempt, delay)


def instrumented(step: Step, cue: Cue) -> Call:
    """Return what a step calls whose cue is not silent, given a witness and its arguments."""
    if step.inner is not None:
        return called_inside(step, step.inner)
    assert isinstance(step.node, Node)  # noqa: S101 - what is no function has a plan inside
    call = node_call(step.node, step.path, step.config, told=tell_retry)
    if cue.wrappers or cue.settings or _has_stand(step, cue):
        return _observed_inside(call, step, step.node, cue)
    return _observed(call, step, step.node, cue)


def instrumented_later(step: Step, cue: Cue) -> Call:
    """Do as `instrumented` for an asynchronous node on a loop."""
    assert isinstance(step.node, Node)  # noqa: S101 - only nodes are asynchronous
    call = node_coroutine(step.node, step.path, step.config, told=tell_retry)
    return _observed_later(call, step, step.node, cue)


def _observed(call: Call, step: Step, node: Node, cue: Cue) -> Call:
    """Return `call` told of from its start to its end: all that most observers ask for."""
    index, reads, gives, shows = step.index, cue.inputs, cue.output, cue.inputs_of_errors
    read = _reader(step, node)

    def observed(witness: Witness | None, *args: Any, **kwargs: Any) -> Any:
        if witness is None:
            return call(*args, **kwargs)
        witness.node_started(index, clock(), read(args, kwargs) if reads else None)
        try:
            value = call(*args, **kwargs)
        except BaseException as error:
            shown = partial(read, args, kwargs) if shows else None
            _tell_failed(witness, index, error, None, shown)
            raise
        witness.node_ended(index, clock(), value if gives else None)
        return value

    return observed


def _observed_inside(call: Call, step: Step, node: Node, cue: Cue) -> Call:
    """Do as `_observed` where there is more to tell than that, or where hooks are around it."""
    index = step.index
    read, around = _reader(step, node), called_around(call, step, node, cue)

    def observed(witness: Witness | None, *args: Any, **kwargs: Any) -> Any:
        if witness is None:
            return call(*args, **kwargs)
        inputs = read(args, kwargs)
        witness.node_started(index, clock(), dict(inputs) if cue.inputs else None)
        stand = Stand(witness, index, cue)
        token = REPORTER.set(stand)
        undo = set_up(witness, step, cue)
        try:
            value = around(witness, inputs, args, kwargs)
        except BaseException as error:
            shown = (lambda: dict(inputs)) if cue.inputs_of_errors else None
            _tell_failed(witness, index, error, stand, shown)
            raise
        finally:
            take_down(undo)
            REPORTER.reset(token)
        if type(value) is Replaced:
            value = value.value
            witness.node_replaced(index)
        witness.node_ended(index, clock(), value if cue.output else None, stand.attempt)
        return value

    return observed


def _observed_later(call: Callable[..., Awaitable[Any]], step: Step, node: Node, cue: Cue) -> Call:
    index, read = step.index, _reader(step, node)

    async def observed(witness: Witness | None, *args: Any, **kwargs: Any) -> Any:
        if witness is None:
            return await call(*args, **kwargs)
        witness.node_started(index, clock(), read(args, kwargs) if cue.inputs else None)
        stand = Stand(witness, index, cue)
        token = REPORTER.set(stand)
        undo = set_up(witness, step, cue)
        try:
            value = await call(*args, **kwargs)
        except BaseException as error:
            shown = partial(read, args, kwargs) if cue.inputs_of_errors else None
            _tell_failed(witness, index, error, stand, shown)
            raise
        finally:
            take_down(undo)
            REPORTER.reset(token)
        witness.node_ended(index, clock(), value if cue.output else None, stand.attempt)
        return value

    return observed


def _has_stand(step: Step, cue: Cue) -> bool:
    """Return whether the code of a node may have something to tell, but its start and end."""
    assert isinstance(step.node, Node)  # noqa: S101 - asked of functions
    own = step.node.retries
    retries = step.config.retries if own is None else own
    is_nested = len(step.path) > _OUTERMOST  # then its code cannot know its run otherwise
    return cue.reports or is_nested or (cue.attempts and retries != 0)


def _tell_failed(
    witness: Witness,
    index: int,
    error: BaseException,
    stand: Stand | None = None,
    shown: Callable[[], dict[str, Any]] | None = None,
) -> None:
    """Tell that a node has failed; what comes from outside of it only passes through."""
    if isinstance(error, Exception) or not _is_from_outside(error):
        inputs = None if shown is None else shown()
        witness.node_failed(index, clock(), *_described(error, stand), inputs)


def _is_from_outside(error: BaseException) -> bool:
    # The name, since asyncio takes 30 ms to import, and its error is none of `concurrent.futures`.
    return isinstance(error, Abandoned | Halted | GeneratorExit) or "CancelledError" in {
        kind.__name__ for kind in type(error).__mro__
    }


def _described(error: BaseException, stand: Stand | None = None) -> tuple[BaseException, int]:
    """Return the user's error, and which attempt raised it."""
    if isinstance(error, Faulted):
        return error_of(error), error.failure.attempts
    return error, 1 if stand is None else stand.attempt


def _reader(step: Step, node: Node) -> Read:
    """Return what puts the arguments of a step under the names that they have in the graph."""
    by_position = node.root_args
    names = {p.name: name for p, name in zip(node.parameters, node.root_args, strict=True)}
    if all(argument.keyword is None for argument in step.arguments):
        return lambda args, _: dict(zip(by_position, args, strict=False))
    return lambda args, kwargs: {
        **dict(zip(by_position, args, strict=False)),
        **{names.get(keyword, keyword): value for keyword, value in kwargs.items()},
    }
