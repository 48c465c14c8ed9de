"""Where pipelines run: one module for each backend, and their contract."""

from hypernodes.abc import Backend
from hypernodes.backends.local import LocalBackend

__all__ = ["Backend", "LocalBackend"]
