"""Attempts at nodes in a worker of a cluster: counted, and told to a driver that has to know."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from hypernodes._engine.clusters.briefs import Attempt
from hypernodes._engine.shipping.account import Account
from hypernodes._engine.watch import UNWATCHED, Call, Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hypernodes._engine.shipping.account import Key

    Announce = Callable[[Attempt], None]


class ChunkAccount(Account):
    """What the piece of a chunk that runs has attempted; tells a driver that has to know.

    Args:
        number: The chunk.
        announce: Tells the driver of an attempt.
    """

    def __init__(self, number: int, announce: Announce) -> None:
        super().__init__()
        self._number = number
        self._announce = announce
        self._piece = -1

    def open(self, spent: Mapping[Key, int]) -> None:
        super().open(spent)
        self._piece += 1

    def announce(self, path: tuple[str, ...], policy: Any) -> None:
        """Announce the attempt that is about to be made."""
        facts = self._number, self._piece, path, self.ordinal, self.attempts, policy
        self._announce(Attempt(*facts))


ACCOUNT: Final[ContextVar[ChunkAccount | None]] = ContextVar("hypernodes_account", default=None)
"""That of the chunk that runs: a process may run several of one plan at once.

None where pieces of a chunk run at once: then nobody could tell whose attempt it is.
"""


class Watches:
    """Makes the watches of a plan.

    Args:
        careful: Whether all attempts at all nodes are announced, for a driver that has to know what
            a worker dies of; else only those are that follow others.

    Attributes:
        count: How many it has made.
    """

    def __init__(self, *, careful: bool) -> None:
        self._first = 1 if careful else 2
        self.count = 0

    def __call__(self, path: tuple[str, ...], _timeout: Any, policy: Any, _later: Any) -> Watch:
        """Return the watch of a node."""
        if policy is None and self._first > 1:
            return UNWATCHED
        self.count += 1
        return _Announcing(path, policy, self._first)


class _Announcing(Watch):
    def __init__(self, path: tuple[str, ...], policy: Any, first: int) -> None:
        self._path = path
        self._policy = policy
        self._first = first

    def whole(self, call: Call) -> Call:
        path = self._path

        def whole(*args: Any, **kwargs: Any) -> Any:
            account = ACCOUNT.get()
            if account is not None:
                account.enter(path)
            return call(*args, **kwargs)

        return whole

    def attempt(self, call: Call) -> Call:
        path, policy, first = self._path, self._policy, self._first

        def attempt(*args: Any, **kwargs: Any) -> Any:
            account = ACCOUNT.get()
            if account is not None:
                account.attempts += 1
                if account.attempts >= first:
                    account.announce(path, policy)
            return call(*args, **kwargs)

        return attempt

    def made(self) -> int:
        account = ACCOUNT.get()
        return 0 if account is None else account.before
