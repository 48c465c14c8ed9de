"""TLS for Dask as a field of what is described; Dask is imported where there is some."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer


def _read(given: object) -> object:
    if given is None:
        return None
    from hypernodes._engine.clusters.security import security_of  # noqa: PLC0415 - users pay

    return security_of(given)


def _written(security: Any) -> dict[str, Any] | None:
    if security is None:
        return None
    from hypernodes._engine.clusters.security import described  # noqa: PLC0415 - users pay

    return described(security)


Tls = Annotated[Any, BeforeValidator(_read), PlainSerializer(_written, when_used="json")]
"""A `distributed.Security`, or a dict of its arguments, or the path of a TOML file with these."""
