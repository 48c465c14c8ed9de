"""Retries: tenacity counts and waits, from the first failure on; success costs nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypernodes._engine.failure import Failure, Faulted
from hypernodes.config import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Callable

    import tenacity


def policy_of(retries: int | RetryPolicy) -> RetryPolicy | None:
    """Return `retries` as a policy (a number means at once), or None where there are none."""
    policy = (
        RetryPolicy(max_retries=retries, initial_delay=0.0) if isinstance(retries, int) else retries
    )
    return policy if policy.max_retries else None


def retrying(
    call: Callable[..., Any], policy: RetryPolicy, path: tuple[str, ...]
) -> Callable[..., Any]:
    """Return `call` with the extra attempts of `policy`.

    Args:
        call: What makes one attempt.
        policy: How often, when, and after which exceptions.
        path: Where the node stands.

    Raises:
        Faulted: By what is returned, when attempts have been made in vain; tells how many.
    """

    def attempt(*args: Any, **kwargs: Any) -> Any:
        try:
            return call(*args, **kwargs)
        except policy.retry_on as error:
            first = error
        return _try_again(first, lambda: call(*args, **kwargs), policy, path)

    return attempt


def _try_again(
    first: Exception, call: Callable[[], Any], policy: RetryPolicy, path: tuple[str, ...]
) -> Any:
    pending = [first]

    def attempt() -> Any:
        if pending:
            raise pending.pop()
        return call()

    retryer = _retryer(policy)
    try:
        return retryer(attempt)
    except Exception as error:  # noqa: BLE001 - whatever the user's function raised
        attempts = retryer.statistics["attempt_number"]
        raise Faulted(Failure(error, node=path[-1], path=path, attempts=attempts)) from None


def _retryer(policy: RetryPolicy) -> tenacity.Retrying:
    import tenacity  # noqa: PLC0415 - it imports asyncio, 30 ms that only a failure should cost

    pause = tenacity.wait_exponential(
        multiplier=policy.initial_delay, exp_base=policy.multiplier, max=policy.max_delay
    )
    return tenacity.Retrying(
        stop=tenacity.stop_after_attempt(policy.max_retries + 1),
        wait=pause + tenacity.wait_random(0, policy.jitter) if policy.jitter else pause,
        retry=tenacity.retry_if_exception_type(policy.retry_on),
        reraise=True,
    )
