"""The outermost run: it begins and ends the session, and nothing comes after its last event."""

from __future__ import annotations

import threading
from contextvars import Context, copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from hypernodes._cancel import Abandoned, waking
from hypernodes._dispatch.session import Halted, Session, add_note
from hypernodes._engine.failure import Failure
from hypernodes._engine.observing.instrument import Stand
from hypernodes._engine.observing.passes import abandoned
from hypernodes._engine.observing.runs import SCENE, Run
from hypernodes._engine.observing.witness import clock
from hypernodes._engine.results import close
from hypernodes.callbacks import REPORTER

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
    from types import TracebackType

    from hypernodes.abc import RunContext
    from hypernodes.callbacks import Scene
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
    with _Staged(run):
        token = SCENE.set(run)
        try:
            run.begin(clock(), dict(inputs))
            found = call(pipeline, inputs, ctx, outputs)
        finally:
            SCENE.reset(token)
        run.end(clock(), dict(found))
    return found


class ObservedMap:
    """A map before observers.

    Args:
        pipeline: What is mapped.
        inputs: All inputs, as they were given.
        ctx: The config in force and the place.
        count: How many items there are, if that is known.
        results: The list that its consumer fills with the results, if there is one.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        inputs: Mapping[str, Any],
        ctx: RunContext,
        *,
        count: int | None,
        results: list[Any] | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._inputs = inputs
        self._ctx = ctx
        self._count = count
        self._results = results

    def entries(
        self, start: Callable[[], Iterable[Any]], on_error: str, *, ordered: bool
    ) -> Generator[Any, None, None]:
        """Yield what the map gives that `start` starts.

        Args:
            start: Starts the map.
            on_error: With `"raise"`, its consumer raises the first failure.
            ordered: Whether outcomes come without their indexes.
        """
        run = _new_run(self._pipeline, self._ctx, is_map=True)
        context = copy_context()
        context.run(SCENE.set, run)
        with _Staged(run):
            run.begin(clock(), dict(self._inputs))
            run.begin_map(clock(), self._count)
            count = run.tally.add
            for entry in _inside(context, start):
                outcome = entry if ordered else entry[1]
                count(outcome)
                if on_error == "raise" and type(outcome) is Failure:
                    run.fatal = outcome.error
                yield entry
                run.session.keep_pace()
            run.end(clock(), self._shown_results())

    def _shown_results(self) -> list[Any] | None:
        """Return a copy of the results, down to each item's dict, if somebody reads them."""
        needs = self._ctx.config.needs
        if self._results is None or needs is None or not needs.reads("outputs", "on_pipeline_end"):
            return None
        return [dict(each) if type(each) is dict else each for each in self._results]


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
    scene, stand = SCENE.get(), REPORTER.get()
    around: Scene | None = None if scene is None else scene.run
    if around is not None and isinstance(stand, Stand) and stand.scene.state is around.state:
        around = stand.scene  # a pipeline inside of it
    parent = None if around is None else around.run_id
    return Run(Session(), pipeline, ctx, uuid4().hex, parent, is_map=is_map)


def _give_up(run: Run) -> None:
    """Tell that a run has been cancelled, though a node that cannot be stopped may still work."""
    ended = clock(), abandoned(run.label)
    threading.Thread(target=run.fail, args=ended, name="hypernodes-end", daemon=True).start()


class _Staged:
    """A block with which a run, and all that is open inside, comes to an end."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._session = run.session
        self._waking = waking(partial(_give_up, run))

    def __enter__(self) -> None:
        """Begin nothing: the run begins inside."""
        self._waking.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        del kind, trace
        self._waking.__exit__(None, None, None)  # not the error: it may refuse to be changed
        run, session = self._run, self._session
        shown = run.fatal if isinstance(error, GeneratorExit) else error
        if isinstance(error, Halted):
            shown = None
            run.fail(clock(), session.halted_by)
        elif error is not None:
            reason = None if isinstance(shown, Abandoned) else shown
            run.fail(clock(), abandoned(run.label) if reason is None else reason)
        session.finish(hastily=shown is not None and not isinstance(shown, Exception))
        if session.fatal is not None and session.fatal is not error:
            raise session.fatal
        if session.error is None:
            return
        if shown is None:
            raise session.error
        add_note(shown, session.error)
