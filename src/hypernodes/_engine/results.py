"""What a lazy map gives: results one by one, for synchronous and asynchronous consumers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator
from contextvars import copy_context
from itertools import repeat
from typing import TYPE_CHECKING, Any, Final, Self

from hypernodes._aside import Aside
from hypernodes._cancel import Abandoned
from hypernodes._engine.failure import Failure, remember
from hypernodes._engine.stream import Handed

if TYPE_CHECKING:
    from types import TracebackType

    from hypernodes._engine.failure import Outcome

_END: Final = object()


class Results(Iterator[Any], AsyncIterator[Any]):
    """Results of a map as they come, for `for` and `async for`.

    Under `async for` a thread takes them, so that the running loop is never blocked. Closing early,
    leaving a `with` or `async with` block, or cancelling the task that waits for a result cancels
    what is under way.

    Args:
        entries: The results.
    """

    def __init__(self, entries: Generator[Any, None, None]) -> None:
        self._entries = entries
        self._aside: Aside | None = None
        self._left = False
        self._context = copy_context()

    def __next__(self) -> Any:
        # In the context of the call that made this: the config in use there holds to the end.
        return self._context.run(next, self._entries)

    def close(self) -> None:
        """Cancel what is under way; there are no more results."""
        self._leave()
        if not self._left:
            self._entries.close()

    async def __anext__(self) -> Any:
        if self._left:
            raise StopAsyncIteration
        if self._aside is None:
            self._aside = Aside()
        try:
            found = await self._aside.call(next, self._entries, _END)
        except Abandoned:
            found = _END
        except StopAsyncIteration as error:  # a node's own: it must not pass for the end
            self._leave()
            raise RuntimeError("a node or an input raised StopAsyncIteration") from error
        except BaseException:
            self._leave()
            raise
        if found is _END:
            self._leave()
            raise StopAsyncIteration
        return found

    async def aclose(self) -> None:
        """Do as `close`, without blocking the running loop."""
        if self._left:  # its thread closes the results when it is done with them
            return
        aside, self._aside = self._aside or Aside(), None
        self._left = True
        aside.stop()
        try:
            await aside.call(self._entries.close)
        finally:
            aside.end()

    def _leave(self) -> None:
        """Let the thread, if there is one, stop, close the results and end."""
        aside, self._aside = self._aside, None
        if aside is not None:
            self._left = True
            aside.stop()
            aside.later(self._entries.close)
            aside.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        self._leave()


def fill(results: list[Any], outcomes: Iterable[tuple[int, Outcome]], on_error: str) -> None:
    """Put what a map gives in its places, or raise the first failure.

    Args:
        results: As many places as there should be items; more are made where there are more.
        outcomes: Indexes and outcomes.
        on_error: `"raise"` or `"return"`.
    """
    raises = on_error == "raise"
    try:
        if isinstance(outcomes, Handed):
            _fill_by_handfuls(results, outcomes, raises=raises)
            return
        count = len(results)
        for index, outcome in outcomes:
            if type(outcome) is Failure and raises:
                raise remember(outcome)
            if index >= count:
                _lengthen(results, index + 1)
            results[index] = outcome
    finally:
        close(outcomes)


def _fill_by_handfuls(results: list[Any], outcomes: Handed, *, raises: bool) -> None:
    for indexes, found in outcomes.handfuls:
        if raises and Failure in set(map(type, found)):
            raise remember(next(each for each in found if type(each) is Failure))
        if isinstance(indexes, range) and len(indexes) == len(found):
            _lengthen(results, indexes.stop)
            results[indexes.start : indexes.stop] = found
            continue
        _lengthen(results, max(indexes) + 1)
        for index, outcome in zip(indexes, found, strict=True):
            results[index] = outcome


def _lengthen(results: list[Any], count: int) -> None:
    results.extend(repeat(None, count - len(results)))


def yielded(
    start: Callable[[], Iterable[Any]], on_error: str, *, ordered: bool
) -> Generator[Any, None, None]:
    """Yield what a lazy map gives, or raise the first failure.

    Args:
        start: Starts the map; called when the first result is asked for.
        on_error: `"raise"` or `"return"`.
        ordered: Whether `start` gives outcomes; else pairs of indexes and outcomes.
    """
    outcomes = start()
    try:
        for entry in outcomes:
            outcome = entry if ordered else entry[1]
            if type(outcome) is Failure and on_error == "raise":
                raise remember(outcome)
            yield entry
    finally:
        close(outcomes)


def close(outcomes: Iterable[Any]) -> None:
    """Close `outcomes` if it can be closed."""
    end = getattr(outcomes, "close", None)
    if end is not None:
        end()
