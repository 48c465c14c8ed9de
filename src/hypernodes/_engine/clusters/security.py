"""TLS for Dask as a value: compared by what it says, printed without it."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distributed.security import Security

from hypernodes.exceptions import hint

FIELDS = tuple(Security.__slots__)


class SecurityValue(Security):  # type: ignore[misc] # extras are Any
    """A `Security` that equals others with the same fields; its repr shows no key."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SecurityValue) and self._fields() == other._fields()

    def __hash__(self) -> int:
        return hash(repr(self._fields()))

    def _fields(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in FIELDS)

    def __repr__(self) -> str:
        return f"Security({', '.join(name for name in FIELDS if getattr(self, name))})"


def security_of(given: object) -> SecurityValue | None:
    """Return the `Security` that something is or describes.

    Args:
        given: A `Security`, the arguments of one, a TOML file with these, or None.

    Raises:
        ValueError: It is none of these.
    """
    if given is None or isinstance(given, SecurityValue):
        return given
    if isinstance(given, Security):
        return _copied(given)
    if isinstance(given, Mapping):
        return _built(given)
    if isinstance(given, str | os.PathLike):
        return _built(_read(Path(given)))
    raise ValueError(
        f"{type(given).__name__} is no security: give a distributed.Security, a dict of its "
        f"arguments, or the path of a TOML file with these"
    )


def described(security: SecurityValue | None) -> dict[str, Any] | None:
    """Return the dict that `security` is made from, fit for JSON.

    Raises:
        ValueError: It holds keys and not where they lie.
    """
    if security is None:
        return None
    plain = Security()
    fields = {n: getattr(security, n) for n in FIELDS if getattr(security, n) != getattr(plain, n)}
    if any(isinstance(value, str) and "\n" in value for value in fields.values()):
        raise ValueError("a security with keys in memory is no data for a file: name files instead")
    return fields


def missing_files(security: object) -> list[str]:
    """Return the files that a `Security`, or the dict for one, names and that are not there."""
    given = security_of(security)
    values = (getattr(given, name) for name in FIELDS if name.endswith(("_file", "_cert", "_key")))
    named = dict.fromkeys(v for v in values if isinstance(v, str) and "\n" not in v)
    return [file for file in named if not Path(file).exists()]


def _copied(given: Security) -> SecurityValue:
    made = SecurityValue()
    for name in FIELDS:
        setattr(made, name, getattr(given, name))
    return made


def _built(fields: Mapping[str, Any]) -> SecurityValue:
    for name in fields:
        if name not in FIELDS:
            raise ValueError(f"security has no {name!r}; {hint(name, FIELDS)}")
    return SecurityValue(**fields)


def _read(path: Path) -> dict[str, Any]:
    """Read a file; what it names lies beside it, where it does not say otherwise."""
    try:
        fields = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"security cannot be read from {os.fspath(path)!r}: {error}") from error
    for name, value in fields.items():
        if name.endswith(("_file", "_cert", "_key")) and isinstance(value, str):
            fields[name] = value if "\n" in value else os.fspath(path.parent / value)
    return fields
