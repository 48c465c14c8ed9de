"""Retries: tenacity counts and waits, from the first failure on; success costs nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hypernodes._cancel import pause
from hypernodes._engine.drive import drive
from hypernodes._engine.failure import Failure, Faulted
from hypernodes._engine.watch import UNWATCHED
from hypernodes.config import RetryPolicy
from hypernodes.exceptions import NodeOutputError

if TYPE_CHECKING:
    from collections.abc import Awaitable

    import tenacity

    from hypernodes._engine.watch import Watch

Told = Callable[[BaseException, int, float], None]
"""Is told of a failed attempt that is made again: the error, its number, the seconds until then."""

Tried = tuple[Any, Exception | None]
"""What an attempt gave: a value, or an error. Errors are values here, whatever their truth."""


def policy_of(retries: int | RetryPolicy) -> RetryPolicy | None:
    """Return `retries` as a policy (a number means at once), or None where there are none."""
    policy = (
        RetryPolicy(max_retries=retries, initial_delay=0.0) if isinstance(retries, int) else retries
    )
    return policy if policy.max_retries else None


def delay_before(policy: RetryPolicy, extra: int) -> float:
    """Return the seconds to wait before extra attempt number `extra`, from 1."""
    import tenacity  # noqa: PLC0415 - it imports asyncio, 30 ms that only a failure should cost

    wait = tenacity.wait_exponential(
        multiplier=policy.initial_delay,
        exp_base=policy.multiplier if policy.initial_delay else 1,  # 0 times infinity is no number
        max=policy.max_delay,
    )
    state = tenacity.RetryCallState(tenacity.Retrying(), None, (), {})
    state.attempt_number = extra
    return wait(state) + (tenacity.wait_random(0, policy.jitter)(state) if policy.jitter else 0.0)


def retrying(
    call: Callable[..., Any],
    policy: RetryPolicy,
    path: tuple[str, ...],
    watch: Watch = UNWATCHED,
    told: Told | None = None,
) -> Callable[..., Any]:
    """Return `call` with the extra attempts of `policy`.

    Args:
        call: What makes one attempt.
        policy: How often, when, and after which exceptions.
        path: Where the node stands.
        watch: Knows how many attempts were made before.
        told: See `Told`.

    Raises:
        Faulted: By what is returned, when attempts have been made in vain; tells how many.
    """

    def attempt(*args: Any, **kwargs: Any) -> Any:
        try:
            return call(*args, **kwargs)
        except policy.retry_on as error:
            first = error

        async def again() -> Tried:
            try:
                return call(*args, **kwargs), None
            except Exception as error:  # noqa: BLE001 - whatever the user's function raised
                return None, error

        retries = _try_again(first, again, policy, path, pause, told=told, spent=watch.made())
        return drive(retries)

    return attempt


def retrying_later(
    call: Callable[..., Awaitable[Any]],
    policy: RetryPolicy,
    path: tuple[str, ...],
    told: Told | None = None,
) -> Callable[..., Awaitable[Any]]:
    """Do as `retrying` for what is awaited on an event loop, which goes on between attempts."""

    async def attempt(*args: Any, **kwargs: Any) -> Any:
        try:
            return await call(*args, **kwargs)
        except policy.retry_on as error:
            first = error

        async def again() -> Tried:
            try:
                return await call(*args, **kwargs), None
            except Exception as error:  # noqa: BLE001 - whatever the user's function raised
                return None, error

        import asyncio  # noqa: PLC0415 - loaded by now: there is a loop

        return await _try_again(first, again, policy, path, asyncio.sleep, told=told)

    return attempt


async def _try_again(
    first: Exception,
    again: Callable[[], Awaitable[Tried]],
    policy: RetryPolicy,
    path: tuple[str, ...],
    sleep: Callable[[float], Awaitable[Any]],
    *,
    told: Told | None,
    spent: int = 0,
) -> Any:
    """Make the extra attempts; the first one has been made and only counts."""
    made: list[Tried] = [(None, first)]

    async def attempt() -> Tried:
        return made.pop() if made else await again()

    retryer = _retryer(policy, sleep, spent, told)
    tried: Tried = await retryer(attempt)
    value, error = tried
    if error is None:
        return value
    attempts = spent + retryer.statistics["attempt_number"]
    raise Faulted(Failure(error, node=path[-1], path=path, attempts=attempts))


def _is_retried(error: Exception | None, policy: RetryPolicy) -> bool:
    return isinstance(error, policy.retry_on) and not isinstance(error, NodeOutputError)


def _retryer(
    policy: RetryPolicy,
    sleep: Callable[[float], Awaitable[Any]],
    spent: int,
    told: Told | None,
) -> tenacity.AsyncRetrying:
    import tenacity  # noqa: PLC0415 - it imports asyncio, 30 ms that only a failure should cost

    def tell(state: tenacity.RetryCallState) -> None:
        error = state.outcome.result()[1] if state.outcome else None
        if told is not None and error is not None:
            told(error, spent + state.attempt_number, state.upcoming_sleep)

    return tenacity.AsyncRetrying(
        sleep=sleep,
        stop=tenacity.stop_after_attempt(policy.max_retries + 1 - spent),
        wait=lambda state: delay_before(policy, spent + state.attempt_number),
        before_sleep=tell,
        retry=tenacity.retry_if_result(lambda tried: _is_retried(tried[1], policy)),
        retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
    )
