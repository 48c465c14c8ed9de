"""The outermost run: it begins and ends the session, and nothing comes after its last event."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from hypernodes._cancel import Abandoned
from hypernodes._dispatch.session import Halted, Session, add_note
from hypernodes._engine.failure import Failure, remember
from hypernodes._engine.observing.runs import SCENE, Guest, Run, abandoned
from hypernodes._engine.observing.witness import clock
from hypernodes._engine.results import close

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping

    from hypernodes.abc import RunContext
    from hypernodes.pipeline import Pipeline

_END: Final = object()


def observed_run(
    call: Callable[..., dict[str, Any]],
    pipeline: Pipeline,
    inputs: Mapping[str, Any],
    ctx: RunContext,
    outputs: Any,
) -> dict[str, Any]:
    """Run a pipeline by `call`, which takes the other arguments, before observers."""
    run = _new_run(pipeline, ctx)
    with _staged(run):
        token = SCENE.set(run)
        try:
            run.begin(clock(), inputs)
            found = call(pipeline, inputs, ctx, outputs)
        finally:
            SCENE.reset(token)
        run.end(clock(), found)
    return found


class ObservedMap:
    """A map before observers.

    Args:
        pipeline: What is mapped.
        inputs: All inputs, as they were given.
        ctx: The config in force and the place.
        count: How many items there are, if that is known.
        results: The list that its consumer fills with the results, if there is one.
        on_error: `"raise"` or `"return"`.
        ordered: Whether outcomes come without their indexes.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        inputs: Mapping[str, Any],
        ctx: RunContext,
        *,
        count: int | None,
        results: list[Any] | None,
        on_error: str,
        ordered: bool,
    ) -> None:
        self._run = _new_run(pipeline, ctx, is_map=True)
        self._inputs = inputs
        self._count = count
        self._results = results
        self._raises = on_error == "raise"
        self._ordered = ordered

    def entries(self, start: Callable[[], Iterable[Any]]) -> Generator[Any, None, None]:
        """Yield what the map gives that `start` starts; raise its first failure if it is to."""
        run = self._run
        context = copy_context()
        context.run(SCENE.set, run)
        with _staged(run):
            run.begin(clock(), self._inputs)
            run.begin_map(clock(), self._count)
            yield from self._checked(_inside(context, start))
            run.end(clock(), self._results)

    def _checked(self, entries: Iterator[Any]) -> Iterator[Any]:
        try:
            for entry in entries:
                outcome = entry if self._ordered else entry[1]
                if self._raises and type(outcome) is Failure:
                    raise remember(outcome)
                yield entry
        finally:
            close(entries)


def _inside(context: Context, start: Callable[[], Iterable[Any]]) -> Iterator[Any]:
    """Yield what `start` gives, all of which happens in `context`."""
    made = context.run(start)
    try:
        entries = context.run(iter, made)
        while (entry := context.run(next, entries, _END)) is not _END:
            yield entry
    finally:
        close(made)


def _new_run(pipeline: Pipeline, ctx: RunContext, *, is_map: bool = False) -> Run:
    """Return a run of its own, or one inside the node whose code asks for it."""
    scene = SCENE.get()
    around = scene.run if isinstance(scene, Guest) else scene
    parent = None if around is None else around.run_id
    return Run(Session(), pipeline, ctx, uuid4().hex, parent, is_map=is_map)


@contextmanager
def _staged(run: Run) -> Iterator[None]:
    """Have a run, and all that is open inside, come to an end with a block."""
    session = run.session
    error: BaseException | None = None
    try:
        yield
    except Halted:
        run.fail(clock(), _halted(session))
    except BaseException as raised:
        error = raised
        is_outside = isinstance(raised, GeneratorExit | Abandoned)
        run.fail(clock(), abandoned(run) if is_outside else raised)
        raise
    finally:
        session.finish(hastily=error is not None and not isinstance(error, Exception))
        if session.error is not None and error is not None:
            add_note(error, session.error)
    if session.error is not None:
        raise session.error


def _halted(session: Session) -> BaseException:
    assert session.error is not None  # noqa: S101 - the session has said why
    return session.error
