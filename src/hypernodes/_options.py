"""The options of a node: facts about its function, and the config it brings along."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any, Final

from hypernodes.config import RetryPolicy, RuntimeConfig
from hypernodes.exceptions import NodeDefinitionError, hint


@dataclass(frozen=True, slots=True)
class Options:
    """What `@node` takes besides the output name; None means that the config decides.

    Attributes:
        cache: Whether results may be kept.
        retries: Extra attempts, or a policy.
        timeout: Seconds for each attempt.
        stateful_params: Parameters whose values are shared by all items and never treated as data.
        resources: What a worker has to have, as sorted pairs of name and amount.
        config: The config under which the node runs.
    """

    cache: bool = True
    retries: int | RetryPolicy | None = None
    timeout: float | None = None
    stateful_params: tuple[str, ...] = ()
    resources: tuple[tuple[str, float], ...] = ()
    config: RuntimeConfig | None = None

    def merged(self, node: str, given: dict[str, Any]) -> Options:
        """Return these options with those `given` in place of the old ones, all of them checked.

        Args:
            node: The node's name, for messages.
            given: New values by name, as the user wrote them.

        Raises:
            NodeDefinitionError: A name is unknown or a value is wrong.
        """
        for name, value in given.items():
            if name not in _CHECKS:
                message = f"node {node!r} has no option {name!r}; {hint(name, _CHECKS)}"
                raise NodeDefinitionError(message, node=node)
            problem = _CHECKS[name](value)
            if problem:
                message = f"{name}={value!r} of node {node!r} has to be {problem}"
                raise NodeDefinitionError(message, node=node)
        return replace(self, **{name: _stored(name, value) for name, value in given.items()})

    def over(self, others: Options) -> Options:
        """Return these options, with those that were left at their defaults taken from `others`."""
        own = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(others, **{n: v for n, v in own.items() if v != getattr(DEFAULTS, n)})


DEFAULTS: Final = Options()


def _stored(name: str, value: Any) -> Any:
    if name == "resources":
        return tuple(sorted((value or {}).items()))
    if name == "stateful_params":
        return (value,) if isinstance(value, str) else tuple(value)
    return value


def _is_amount(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_cache(value: object) -> str | None:
    return None if isinstance(value, bool) else "True or False"


def _check_retries(value: object) -> str | None:
    if value is None or isinstance(value, RetryPolicy):
        return None
    fine = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return None if fine else "a number of extra attempts (0 or more) or a RetryPolicy"


def _check_timeout(value: Any) -> str | None:
    return None if value is None or (_is_amount(value) and value > 0) else "seconds, more than 0"


def _check_stateful_params(value: Any) -> str | None:
    fine = isinstance(value, str | tuple | list) and all(isinstance(name, str) for name in value)
    return None if fine else "a tuple of parameter names"


def _check_resources(value: Any) -> str | None:
    fine = value is None or (
        isinstance(value, dict)
        and all(isinstance(key, str) for key in value)
        and all(_is_amount(amount) and amount >= 0 for amount in value.values())
    )
    return None if fine else "a dict of resource names and amounts (0 or more)"


def _check_config(value: object) -> str | None:
    return None if value is None or isinstance(value, RuntimeConfig) else "a RuntimeConfig"


_CHECKS: Final = {
    "cache": _check_cache,
    "retries": _check_retries,
    "timeout": _check_timeout,
    "stateful_params": _check_stateful_params,
    "resources": _check_resources,
    "config": _check_config,
}
