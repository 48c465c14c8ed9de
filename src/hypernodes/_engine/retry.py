"""Retries: tenacity counts and waits, from the first failure on; success costs nothing."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, Final

from hypernodes._engine.failure import Failure, Faulted
from hypernodes._engine.watch import UNWATCHED
from hypernodes.config import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Callable

    import tenacity

    from hypernodes._engine.watch import Watch

MOST_GROWTH: Final = 500  # beyond it, the power of a float overflows


def policy_of(retries: int | RetryPolicy) -> RetryPolicy | None:
    """Return `retries` as a policy (a number means at once), or None where there are none."""
    policy = (
        RetryPolicy(max_retries=retries, initial_delay=0.0) if isinstance(retries, int) else retries
    )
    return policy if policy.max_retries else None


def pause(policy: RetryPolicy, extra: int) -> float:
    """Return the seconds to wait before extra attempt number `extra`, from 1."""
    growth = policy.multiplier ** min(extra - 1, MOST_GROWTH)
    jitter = random.uniform(0, policy.jitter) if policy.jitter else 0.0  # noqa: S311 - no secret
    return min(policy.initial_delay * growth, policy.max_delay) + jitter


def retrying(
    call: Callable[..., Any],
    policy: RetryPolicy,
    path: tuple[str, ...],
    watch: Watch = UNWATCHED,
) -> Callable[..., Any]:
    """Return `call` with the extra attempts of `policy`.

    Args:
        call: What makes one attempt.
        policy: How often, when, and after which exceptions.
        path: Where the node stands.
        watch: Knows how many attempts were made before.

    Raises:
        Faulted: By what is returned, when attempts have been made in vain; tells how many.
    """

    def attempt(*args: Any, **kwargs: Any) -> Any:
        try:
            return call(*args, **kwargs)
        except policy.retry_on as error:
            first = error
        return _try_again(first, lambda: call(*args, **kwargs), policy, path, watch.made())

    return attempt


def _try_again(
    first: Exception,
    call: Callable[[], Any],
    policy: RetryPolicy,
    path: tuple[str, ...],
    made: int,
) -> Any:
    pending = [first]

    def attempt() -> Any:
        if pending:
            raise pending.pop()
        return call()

    retryer = _retryer(policy, made)
    try:
        return retryer(attempt)
    except Exception as error:  # noqa: BLE001 - whatever the user's function raised
        attempts = made + retryer.statistics["attempt_number"]
        raise Faulted(Failure(error, node=path[-1], path=path, attempts=attempts)) from None


def _retryer(policy: RetryPolicy, made: int) -> tenacity.Retrying:
    import tenacity  # noqa: PLC0415 - it imports asyncio, 30 ms that only a failure should cost

    return tenacity.Retrying(
        stop=tenacity.stop_after_attempt(policy.max_retries + 1 - made),
        wait=lambda state: pause(policy, made + state.attempt_number),
        retry=tenacity.retry_if_exception_type(policy.retry_on),
        reraise=True,
    )
