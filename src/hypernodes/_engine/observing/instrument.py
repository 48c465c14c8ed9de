"""What a step calls when somebody observes it: the same, with a witness as first argument."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from hypernodes._cancel import Abandoned
from hypernodes._dispatch.session import Halted
from hypernodes._engine.calls import node_call, node_coroutine, unpack
from hypernodes._engine.failure import Faulted
from hypernodes._engine.inner import gather, inner_call, inputs_of, items_of, outcomes, whole_item
from hypernodes._engine.observing.passes import Guest, Pass
from hypernodes._engine.observing.runs import SCENE
from hypernodes._engine.observing.witness import Witness, clock
from hypernodes._node import Node
from hypernodes.cache._values import mark_of
from hypernodes.callbacks import REPORTER, CallbackContext

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from hypernodes._engine.mapping import Items
    from hypernodes._engine.observing.script import Cue
    from hypernodes._engine.plan import Inner, Step

    Call = Callable[..., Any]
    Read = Callable[[tuple[Any, ...], dict[str, Any]], "dict[str, Any]"]


class _Replaced:
    """What hooks have put in the place of what a node has made.

    Args:
        value: The value.
    """

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value: Any = value


class Stand:
    """Where the code of a node stands: takes its reports, and counts its attempts.

    Args:
        witness: Who is told.
        index: The step.
        cue: What is to be told.
    """

    __slots__ = ("_cue", "_index", "_witness", "attempt")

    def __init__(self, witness: Witness, index: int, cue: Cue) -> None:
        self._witness = witness
        self._index = index
        self._cue = cue
        self.attempt = 1

    def reported(self, kind: str, data: dict[str, Any]) -> None:
        """Tell what the code reports."""
        if self._cue.reports:
            self._witness.reported(self._index, clock(), kind, data)

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
        return _inner_call(step, step.inner)
    assert isinstance(step.node, Node)  # noqa: S101 - what is no function has a plan inside
    call = node_call(step.node, step.path, step.config, told=tell_retry)
    if cue.wrappers or _has_stand(step, cue):
        return _observed_inside(call, step, step.node, cue)
    return _observed(call, step, step.node, cue)


def instrumented_later(step: Step, cue: Cue) -> Call:
    """Do as `instrumented` for an asynchronous node on a loop."""
    assert isinstance(step.node, Node)  # noqa: S101 - only nodes are asynchronous
    call = node_coroutine(step.node, step.path, step.config, told=tell_retry)
    return _observed_later(call, step, step.node, cue)


# ---------------------------------------------------------------- nodes


def _observed(call: Call, step: Step, node: Node, cue: Cue) -> Call:
    """Return `call` told of from its start to its end: all that most observers ask for."""
    index, reads, gives = step.index, cue.inputs, cue.output
    read = _reader(step, node)

    def observed(witness: Witness | None, *args: Any, **kwargs: Any) -> Any:
        if witness is None:
            return call(*args, **kwargs)
        witness.node_started(index, clock(), read(args, kwargs) if reads else None)
        try:
            value = call(*args, **kwargs)
        except BaseException as error:
            _tell_failed(witness, index, error)
            raise
        witness.node_ended(index, clock(), value if gives else None)
        return value

    return observed


def _observed_inside(call: Call, step: Step, node: Node, cue: Cue) -> Call:
    """Do as `_observed` where there is more to tell than that, or where hooks are around it."""
    index = step.index
    read, around = _reader(step, node), _around(call, step, node, cue)

    def observed(witness: Witness | None, *args: Any, **kwargs: Any) -> Any:
        if witness is None:
            return call(*args, **kwargs)
        inputs = read(args, kwargs)
        witness.node_started(index, clock(), dict(inputs) if cue.inputs else None)
        stand = Stand(witness, index, cue)
        token = REPORTER.set(stand)
        try:
            value = around(witness, inputs, args, kwargs)
        except BaseException as error:
            _tell_failed(witness, index, error, stand)
            raise
        finally:
            REPORTER.reset(token)
        if type(value) is _Replaced:
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
        try:
            value = await call(*args, **kwargs)
        except BaseException as error:
            _tell_failed(witness, index, error, stand)
            raise
        finally:
            REPORTER.reset(token)
        witness.node_ended(index, clock(), value if cue.output else None, stand.attempt)
        return value

    return observed


def _has_stand(step: Step, cue: Cue) -> bool:
    """Return whether the code of a node may have something to tell, but its start and end."""
    assert isinstance(step.node, Node)  # noqa: S101 - asked of functions
    own = step.node.retries
    retries = step.config.retries if own is None else own
    return cue.reports or (cue.attempts and retries != 0)


def _tell_failed(
    witness: Witness, index: int, error: BaseException, stand: Stand | None = None
) -> None:
    """Tell that a node has failed; what comes from outside of it only passes through."""
    if isinstance(error, Exception) or not _is_from_outside(error):
        witness.node_failed(index, clock(), *_described(error, stand))


def _is_from_outside(error: BaseException) -> bool:
    # The name, since asyncio takes 30 ms to import, and its error is none of `concurrent.futures`.
    return isinstance(error, Abandoned | Halted | GeneratorExit) or "CancelledError" in {
        kind.__name__ for kind in type(error).__mro__
    }


def _described(error: BaseException, stand: Stand | None = None) -> tuple[BaseException, int]:
    """Return the user's error, and which attempt raised it."""
    if isinstance(error, Faulted):
        return error.failure.error, error.failure.attempts
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


# ---------------------------------------------------------------- what is called around nodes


def _around(call: Call, step: Step, node: Node, cue: Cue) -> Call:
    """Return what calls the `wrap_node` hooks, from the outside in, and `call` inside of them."""
    if not cue.wrappers:
        return lambda _witness, _inputs, args, kwargs: call(*args, **kwargs)

    is_kept = step.cached

    def around(witness: Witness, inputs: Any, args: Any, kwargs: Any) -> Any:
        scene = witness.scene(step.index)
        ctx = CallbackContext(scene, step, clock(), witness.item_index, inputs)
        made = _Made(is_kept, args, kwargs)
        inside: Any = partial(made.call, call)
        for wrapper in reversed(cue.wrappers):
            inside = partial(wrapper, ctx, node, inputs, inside)
        value = inside()
        fitting = _fitting(value, node, step.path)
        return fitting if made.is_last(value) else _Replaced(fitting)

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


# ---------------------------------------------------------------- pipelines inside a step


def _inner_call(step: Step, inner: Inner) -> Call:
    if inner.ctx.nodes_on is not None:
        call = inner_call(inner, step.path)
        return lambda witness, *values: item_elsewhere(witness, partial(call, *values))
    if not inner.elsewhere:
        return partial(_map_here, step, inner)
    if isinstance(step.node, Node):
        return partial(_node_elsewhere, step, inner)
    return partial(_pipeline_elsewhere, step, inner)


def _map_here(step: Step, inner: Inner, witness: Witness | None, *values: Any) -> Any:
    return map_told(step, inner, witness, values, items_of(inner, values))


def map_told(
    step: Step, inner: Inner, witness: Witness | None, values: Sequence[Any], items: Items
) -> Any:
    """Return what the map inside a step gives, telling a witness of it if there is one.

    Args:
        step: The step.
        inner: The pipeline inside.
        witness: Who is told.
        values: The step's arguments.
        items: The items.
    """
    if inner.elsewhere:
        return _elsewhere_told(step, inner, witness, values, items)
    engine = inner.engine(items.shared)
    enter = tell_inner_started(witness, step, items.count, values)
    try:
        lists = gather(inner, engine.attempt_all(items.shared, items.items, enter))
    except Exception as error:
        tell_inner_failed(witness, step, _described(error)[0])
        raise
    tell_inner_ended(witness, step, lists)
    return lists


def tell_inner_started(
    witness: Witness | None, step: Step, count: int | None, values: Any
) -> Callable[[int], Witness] | None:
    """Tell of the start of the map inside a step; return who is told of its items, if anybody is.

    Args:
        witness: Who is told, if somebody observes.
        step: The step.
        count: How many items there are, if that is known.
        values: The step's arguments; None where they are not there.
    """
    if witness is None or step.inner is None:
        return None
    witness.inner_started(step.index, clock(), count, inner_inputs(step.inner, values))
    return partial(witness.item, step.index) if step.inner.item_engine.is_observed else None


def tell_inner_ended(witness: Witness | None, step: Step, lists: Any) -> None:
    """Tell of the end of the map inside a step, which has made `lists`."""
    if witness is not None and step.inner is not None:
        witness.inner_ended(step.index, clock(), inner_outputs(step.inner, lists))


def tell_inner_failed(witness: Witness | None, step: Step, error: BaseException) -> None:
    """Tell that the map inside a step has failed."""
    if witness is not None:
        witness.inner_failed(step.index, clock(), error)


def inner_inputs(inner: Inner, values: Any) -> dict[str, Any] | None:
    """Return the inputs of the pipeline inside a step by name, if somebody reads them."""
    needs = inner.ctx.config.needs
    events = "on_pipeline_start", "on_pipeline_end", "on_pipeline_error", "on_map_start"
    if needs is None or not needs.reads("inputs", *events, "on_map_end"):
        return None
    return {} if values is None else dict(zip(inner.inputs, values, strict=True))


def inner_outputs(inner: Inner, values: Any) -> dict[str, Any] | None:
    """Return the outputs of the pipeline inside a step by name, if somebody reads them."""
    needs = inner.ctx.config.needs
    if needs is None or not needs.reads("outputs", "on_pipeline_end"):
        return None
    return dict(zip(inner.outputs, values, strict=True))


def _run_elsewhere(step: Step, inner: Inner, values: Any) -> Any:
    return whole_item(inner, step.path)(inputs_of(inner, values))


def item_elsewhere(witness: Witness | None, call: Callable[[], Any]) -> Any:
    """Have all of an item run by another executor, inside the item that it is.

    Args:
        witness: Who is told of the item, if somebody observes.
        call: Runs it.
    """
    if not isinstance(witness, Pass):
        return call()
    token = SCENE.set(Guest(witness.run, witness))
    try:
        return call()
    finally:
        SCENE.reset(token)


def _node_elsewhere(step: Step, inner: Inner, witness: Witness | None, *values: Any) -> Any:
    """Have a node run under its own config, inside the run that it belongs to."""
    if not isinstance(witness, Pass):
        return _run_elsewhere(step, inner, values)
    token = SCENE.set(witness.touch(step.index, clock()))
    try:
        outputs = _run_elsewhere(step, inner, values)
    finally:
        SCENE.reset(token)
    witness.release(step.index, clock(), outputs)
    return outputs


def _pipeline_elsewhere(step: Step, inner: Inner, witness: Witness | None, *values: Any) -> Any:
    """Have a pipeline run, or be mapped, under its own config: a run of its own."""
    items = items_of(inner, values) if inner.map_over else None
    return _elsewhere_told(step, inner, witness, values, items)


def _elsewhere_told(
    step: Step, inner: Inner, witness: Witness | None, values: Sequence[Any], items: Items | None
) -> Any:
    if not isinstance(witness, Pass):
        return _elsewhere(step, inner, values, items)
    is_map = items is not None
    run = witness.nest(step.index, clock(), inner_inputs(inner, values), is_map=is_map)
    token = SCENE.set(run)
    try:
        if items is not None:
            run.begin_map(clock(), items.count)
        lists = _elsewhere(step, inner, values, items)
    except Exception as error:
        witness.inner_failed(step.index, clock(), _described(error)[0])
        raise
    finally:
        SCENE.reset(token)
    witness.inner_ended(step.index, clock(), inner_outputs(inner, lists))
    return lists


def _elsewhere(step: Step, inner: Inner, values: Sequence[Any], items: Items | None) -> Any:
    if items is None:
        return _run_elsewhere(step, inner, values)
    return gather(inner, outcomes(inner, items))
