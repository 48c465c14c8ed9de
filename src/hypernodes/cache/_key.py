"""Keys: what checksums are made with, private to a user or shared by those who are given it."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from typing import Final

from blake3 import blake3

from hypernodes.cache._files import make_private
from hypernodes.exceptions import CacheError

__all__ = ["KEY_VARIABLE", "derived", "is_whole", "read_or_make", "shared_key"]

KEY_VARIABLE: Final = "HYPERNODES_CACHE_KEY"

_LENGTH: Final = 64
_CONTEXT: Final = "hypernodes 2026-01-01 cache entries"
_ATTEMPTS: Final = 20


def derived(key: str | bytes) -> bytes:
    """Return 32 bytes that stand for a key of any length."""
    material = key.encode("utf-8", "surrogatepass") if isinstance(key, str) else bytes(key)
    return blake3(material, derive_key_context=_CONTEXT).digest()


def shared_key(given: object) -> str | bytes | None:
    """Return the key that was `given`, else that of the environment, else None.

    Raises:
        CacheError: The key is empty, or no text.
    """
    if given is None:
        return os.environ.get(KEY_VARIABLE) or None
    if not isinstance(given, str | bytes) or not given:
        raise CacheError("the key of a cache has to be a text or bytes, and not empty")
    return given


def read_or_make(path: str) -> bytes:
    """Return the key in a file; one that is missing or damaged is replaced by a new one.

    Args:
        path: The file; only its owner may read it.

    Raises:
        OSError: It cannot be read, or not be made.
        PermissionError: It is another user's.
    """
    for _ in range(_ATTEMPTS):
        content = _read(path)
        if content is not None and is_whole(content):
            return derived(content)
        if content is not None:
            with suppress(FileNotFoundError):
                os.unlink(path)
        _make(path)
    raise OSError(f"{path} is replaced again and again")


def is_whole(content: bytes) -> bool:
    """Say whether the content of a key file is a key."""
    return len(content) == _LENGTH and set(content) <= set(b"0123456789abcdef")


def _read(path: str) -> bytes | None:
    try:
        file = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        return None
    with os.fdopen(file, "rb") as opened:
        facts = os.fstat(file)
        if os.name == "posix" and facts.st_uid != os.geteuid():
            raise PermissionError(
                f"{path} belongs to another user: whoever wrote it may forge entries"
            )
        if os.name == "posix" and facts.st_mode & 0o077:
            with suppress(OSError):
                os.fchmod(file, 0o600)
        return opened.read(_LENGTH + 1)


def _make(path: str) -> None:
    """Put a new key in place in one step; one that somebody else put there meanwhile stays."""
    make_private(os.path.dirname(path))
    draft = f"{path}-{secrets.token_hex(8)}"
    file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(file, "wb") as opened:
            opened.write(secrets.token_hex(_LENGTH // 2).encode())
            opened.flush()
            os.fsync(file)
        with suppress(FileExistsError):
            _put_in_place(draft, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(draft)


def _put_in_place(draft: str, path: str) -> None:
    try:
        os.link(draft, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links: the last one to come wins
        os.rename(draft, path)
