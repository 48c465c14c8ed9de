"""Where pipelines run: one module for each backend, and their contract."""

from hypernodes.abc import Backend
from hypernodes.backends.local import LocalBackend
from hypernodes.backends.remote import RemoteBackend

__all__ = ["Backend", "LocalBackend", "RemoteBackend"]
