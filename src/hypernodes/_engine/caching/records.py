"""What an entry was made from, for those who want to know why the next run did not find it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hypernodes._engine.caching.keys import Key
    from hypernodes._engine.caching.scheme import Scheme
    from hypernodes._engine.plan import Step

CODE: Final = "code"
SALT: Final = "salt"

# Enough of a hash to tell one from another.
_SHORT: Final = 16


def node_name(step: Step) -> str:
    """Return what records call a step."""
    return " > ".join(step.path)


def parts_of(
    scheme: Scheme, step: Step, code: str, salt: str, keys: Sequence[Key]
) -> dict[str, str]:
    """Return what the signature of a step is made of, by name.

    Args:
        scheme: What is known of its plan.
        step: The step.
        code: What its code hashes to.
        salt: Of its cache.
        keys: Those of its arguments, in order.
    """
    parts = {CODE: code[:_SHORT]}
    if salt:
        parts[SALT] = salt
    for name, key in zip(scheme.labels[step.index], keys, strict=True):
        parts[name] = key if key[:1] == "=" else key[:_SHORT] + key[64:]
    return parts


def label(name: str) -> str:
    """Return what parts call an argument."""
    return f"{name} (input)" if name in (CODE, SALT) else name
