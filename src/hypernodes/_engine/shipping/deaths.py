"""What becomes of a piece whose worker died: whether it runs again, and how it has failed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from hypernodes._engine.calls import overdue
from hypernodes._engine.failure import Failure, annotate, node_note
from hypernodes._engine.retry import delay_before
from hypernodes._engine.shipping.events import Lost
from hypernodes.exceptions import WorkerCrashedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hypernodes._engine.plan import Step
    from hypernodes._engine.shipping.account import Key
    from hypernodes.config import RetryPolicy

MOST_CRASHES: Final = 2


class Death(NamedTuple):
    """Why a piece lost its worker.

    Attributes:
        late: Whether it was killed for being late; else it died.
        path: The node that ran, as far as known.
        ordinal: Which call of it.
        attempt: Which attempt, or 0 where that is not known.
        timeout: The node's timeout.
        policy: The node's retries.
    """

    late: bool = False
    path: tuple[str, ...] = ()
    ordinal: int = 0
    attempt: int = 0
    timeout: float | None = None
    policy: RetryPolicy | None = None


@dataclass(slots=True)
class Trouble:
    """What has befallen a piece; from then on it runs alone.

    Attributes:
        crashes: How many workers died of it.
        spent: How many attempts were made at calls of its nodes.
        lost: The attempts that are made again, for those who observe.
    """

    crashes: int = 0
    spent: dict[Key, int] = field(default_factory=dict)
    lost: list[Lost] = field(default_factory=list)


def delay_before_next(trouble: Trouble, death: Death) -> float | None:
    """Return the seconds after which a piece runs again, or None if it does not; note it.

    Args:
        trouble: What has befallen the piece before.
        death: Why it has lost its worker now.
    """
    if not death.late:
        trouble.crashes += 1
        if trouble.crashes < MOST_CRASHES:
            trouble.spent[death.path, death.ordinal] = max(0, death.attempt - 1)
            return 0.0
    kind = type(_error_for(None, death))
    policy = death.policy
    if policy is None or not issubclass(kind, policy.retry_on):
        return None
    if death.attempt > policy.max_retries:
        return None
    trouble.spent[death.path, death.ordinal] = death.attempt
    delay = delay_before(policy, death.attempt)
    error = _error_for(None, death)
    trouble.lost.append(Lost(death.path, error, death.attempt, delay))
    return delay


def failure_of(index: int | None, steps: Sequence[Step], trouble: Trouble, death: Death) -> Failure:
    """Return the failure of a piece that does not run again.

    Args:
        index: Of its item.
        steps: What it runs.
        trouble: What has befallen it.
        death: Why it has lost its worker.
    """
    step = next((step for step in steps if step.path == death.path), None)
    if step is None and len(steps) == 1 and steps[0].inner is None:
        step = steps[0]
    path = death.path or (step.path if step is not None else ())
    found = death._replace(path=path)
    attempts = death.attempt or max(1, trouble.crashes - 1)  # the first is forgiven
    return _described(_error_for(index, found), path, index, attempts)


def fruitless_error() -> WorkerCrashedError:
    """Return the error for a run whose workers die before they have run anything."""
    message = (
        "one worker process after the other died before it had run anything, perhaps while it read "
        "the pipeline or the shared inputs; these may not fit into memory, or crash native code"
    )
    return WorkerCrashedError(message, node=None, path=(), index=None)


def _error_for(index: int | None, death: Death) -> Exception:
    if death.late:
        return overdue(death.path or ("",), death.timeout)
    return _crash(death.path, index)


def _described(
    error: Exception, path: tuple[str, ...], index: int | None, attempts: int
) -> Failure:
    """Return `error` as a failure of the node at `path`, with the note that says where."""
    if path:
        annotate(error, node_note(path, index))
    return Failure(error, index, path[-1] if path else None, path, attempts=attempts)


def _crash(path: tuple[str, ...], index: int | None) -> WorkerCrashedError:
    item = "" if index is None else f" of item {index}"
    what = f"node {path[-1]!r}{item}" if path else f"a node{item}"
    message = (
        f"the worker process died while it ran {what}, and again when that ran alone; it may have "
        f"run out of memory, crashed in native code, or called os._exit"
    )
    node = path[-1] if path else None
    return WorkerCrashedError(message, node=node, path=path, index=index)
