"""Retries: tenacity counts and waits, from the first failure on; success costs nothing."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from hypernodes._cancel import pause
from hypernodes._engine.drive import drive
from hypernodes._engine.failure import Failure, Faulted
from hypernodes.config import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

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

        async def again() -> Any:
            try:
                return call(*args, **kwargs)
            except StopIteration as error:
                raise _Stopped(error) from None

        return drive(_try_again(first, again, policy, path, pause))

    return attempt


def retrying_later(
    call: Callable[..., Awaitable[Any]], policy: RetryPolicy, path: tuple[str, ...]
) -> Callable[..., Awaitable[Any]]:
    """Do as `retrying` for what is awaited on an event loop, which goes on between attempts."""

    async def attempt(*args: Any, **kwargs: Any) -> Any:
        try:
            return await call(*args, **kwargs)
        except policy.retry_on as error:
            first = error
        import asyncio  # noqa: PLC0415 - loaded by now: there is a loop

        return await _try_again(first, partial(call, *args, **kwargs), policy, path, asyncio.sleep)

    return attempt


async def _try_again(
    first: Exception,
    call: Callable[[], Awaitable[Any]],
    policy: RetryPolicy,
    path: tuple[str, ...],
    sleep: Callable[[float], Awaitable[Any]],
) -> Any:
    pending = [_Stopped(first) if isinstance(first, StopIteration) else first]

    async def attempt() -> Any:
        if pending:
            raise pending.pop()
        return await call()

    retryer = _retryer(policy, sleep)
    try:
        return await retryer(attempt)
    except Exception as error:  # noqa: BLE001 - whatever the user's function raised
        attempts = retryer.statistics["attempt_number"]
        raise Faulted(Failure(_bare(error), node=path[-1], path=path, attempts=attempts)) from None


def _retryer(
    policy: RetryPolicy, sleep: Callable[[float], Awaitable[Any]]
) -> tenacity.AsyncRetrying:
    import tenacity  # noqa: PLC0415 - it imports asyncio, 30 ms that only a failure should cost

    wait = tenacity.wait_exponential(
        multiplier=policy.initial_delay, exp_base=policy.multiplier, max=policy.max_delay
    )
    return tenacity.AsyncRetrying(
        sleep=sleep,
        stop=tenacity.stop_after_attempt(policy.max_retries + 1),
        wait=wait + tenacity.wait_random(0, policy.jitter) if policy.jitter else wait,
        retry=tenacity.retry_if_exception(lambda error: isinstance(_bare(error), policy.retry_on)),
        reraise=True,
    )


class _Stopped(Exception):  # noqa: N818 - only carries what no coroutine can raise
    """Carries a `StopIteration` of the user's."""

    def __init__(self, error: StopIteration) -> None:
        super().__init__(error)
        self.error = error


def _bare(error: Any) -> Any:
    return error.error if isinstance(error, _Stopped) else error
