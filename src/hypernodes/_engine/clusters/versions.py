"""Versions: what has to be the same here and where work is sent, and who differs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from hypernodes.exceptions import HyperNodesError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PACKAGES: Final = ("hypernodes", "cloudpickle")
SHOWN: Final = 5
"""Of so many workers a message says what they have."""
_PYTHON: Final = "'{}.{}'.format(*__import__('sys').version_info)"
_PACKAGE: Final = (
    "__import__(name).__version__ if __import__('importlib.util').util.find_spec(name) else None"
)


def inquiry(*packages: str) -> str:
    """Return an expression whose value, in any process, is what that has in versions, by name.

    It is sent as text and evaluated, so that nothing of ours is needed there.

    Args:
        *packages: Besides those that travel needs everywhere.

    Example:
        >>> sorted(eval(inquiry("pluggy")))
        ['Python', 'cloudpickle', 'hypernodes', 'pluggy']
    """
    return (
        f"{{'Python': {_PYTHON}, **{{name: (lambda name: {_PACKAGE})(name) "
        f"for name in {(*PACKAGES, *packages)!r}}}}}"
    )


def differing(here: Mapping[str, Any], there: Any) -> str:
    """Return in words what differs; nothing where nothing does.

    Args:
        here: The versions of this process.
        there: Those of another one, or what was raised when it was asked.

    Example:
        >>> differing({"Python": "3.11"}, {"Python": "3.12"})
        'has Python 3.12 and not 3.11'
    """
    if not isinstance(there, dict):
        return f"could not be asked for its versions ({there!r})"
    missing = [name for name in here if there.get(name) is None]
    if missing:
        return f"has no {' and no '.join(missing)}"
    other = [name for name, version in here.items() if there[name] != version]
    return ", ".join(f"has {name} {there[name]} and not {here[name]}" for name in other)


def mismatch(found: Iterable[tuple[str, str]]) -> HyperNodesError:
    """Return the error that names workers which do not fit.

    Args:
        found: Names of workers, and what differs in words.
    """
    lines = [f"{name} {words}" for name, words in found]
    more = f"; and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
    return HyperNodesError(
        f"workers do not fit this process: {'; '.join(lines[:SHOWN])}{more}. What is sent to them "
        f"is made for the versions here; install the same ones there"
    )
