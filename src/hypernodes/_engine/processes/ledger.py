"""A worker's account of attempts: announced on the board, so that the driver can end late ones."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from hypernodes._engine.calls import overdue
from hypernodes._engine.processes.board import write_watch
from hypernodes._engine.shipping.account import Account
from hypernodes._engine.watch import UNWATCHED, Call, Watch

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypernodes.config import RetryPolicy

LONGEST: Final = 1e9
"""Seconds after which no driver looks any more, so that a deadline fits into its cell."""

GRACE: Final = 1.0
"""Seconds that a coroutine gets to be cancelled before its worker is killed."""


class Ledger(Account):
    """What this worker has attempted for the item that it runs.

    Args:
        cells: The board.
        tell: Tells the driver of a new watch: its number, the plan's token, path, timeout
            and retries.
    """

    def __init__(self, cells: memoryview, tell: Callable[..., None]) -> None:
        super().__init__()
        self.cells = cells
        self._tell = tell
        self.count = 0
        self.timed = 0

    def watches(self, token: int, *, careful: bool) -> Callable[..., Watch]:
        """Return what makes the watches of a plan.

        Args:
            token: What the plan is called.
            careful: Whether every node is watched, and not only those with a timeout or retries.
        """

        def new_watch(
            path: tuple[str, ...],
            timeout: float | None,
            policy: RetryPolicy | None,
            coroutine: bool,  # noqa: FBT001 - the contract of NEW_WATCH
        ) -> Watch:
            if timeout is None and policy is None and not careful:
                return UNWATCHED
            self.count += 1
            self.timed += timeout is not None
            number = self.count
            self._tell(number, token, path, timeout, policy)
            return _BoardWatch(self, number, path, timeout, GRACE if coroutine else 0.0)

        return new_watch


class _BoardWatch(Watch):
    kills = True

    def __init__(
        self,
        ledger: Ledger,
        number: int,
        path: tuple[str, ...],
        timeout: float | None,
        grace: float,
    ) -> None:
        self._ledger = ledger
        self._number = number
        self._path = path
        self._timeout = timeout
        self._grace = grace

    def whole(self, call: Call) -> Call:
        ledger, path = self._ledger, self._path

        def whole(*args: Any, **kwargs: Any) -> Any:
            ledger.enter(path)
            return call(*args, **kwargs)

        return whole

    def attempt(self, call: Call) -> Call:
        ledger, number, timeout = self._ledger, self._number, self._timeout
        cells = ledger.cells
        span = 0 if timeout is None else int(min(timeout + self._grace, LONGEST) * 1e9)

        def attempt(*args: Any, **kwargs: Any) -> Any:
            ledger.attempts += 1
            deadline = time.monotonic_ns() + span if span else 0
            write_watch(cells, number, ledger.ordinal, ledger.attempts, deadline)
            try:
                value = call(*args, **kwargs)
            finally:
                write_watch(cells, 0)
            if deadline and time.monotonic_ns() > deadline:
                raise overdue(self._path, timeout)
            return value

        return attempt

    def made(self) -> int:
        return self._ledger.before
