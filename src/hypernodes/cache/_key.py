"""Keys: what checksums are made with, private to a user or shared by those who are given it."""

from __future__ import annotations

import os
import secrets
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from blake3 import blake3

from hypernodes.cache._files import make_private
from hypernodes.exceptions import CacheError

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "KEY_VARIABLE",
    "SHARED",
    "NoKeyError",
    "derived",
    "is_whole",
    "known_secret",
    "mark_of",
    "missing",
    "other",
    "read_or_make",
    "secret_in",
    "shared_key",
]

KEY_VARIABLE: Final = "HYPERNODES_CACHE_KEY"

SHARED: Final = "key-is-shared"
"""The name of what stands in the place of a key where it is shared: a mark of it, not the key."""

_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL

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


class NoKeyError(OSError):
    """A cache whose key this process does not have."""


def mark_of(secret: bytes) -> bytes:
    """Return what tells a key from others, and does not give it away.

    Args:
        secret: As `derived` makes it.
    """
    return blake3(b"mark", key=secret).hexdigest().encode()


def missing(path: str) -> NoKeyError:
    """Return what to say where the key is needed, and not there."""
    return NoKeyError(
        f"the key of {path} is not known here: give the one that its users share, as key= or by "
        f"the environment variable {KEY_VARIABLE}"
    )


def other(path: str) -> NoKeyError:
    """Return what to say where the key is not the one that was shared first."""
    return NoKeyError(
        f"this key is not the one of {path}: give that one, as key= or by the environment "
        f"variable {KEY_VARIABLE}, or clear the cache and remove {SHARED} from it"
    )


def secret_in(directory: str, given: object, mode: int) -> bytes:
    """Return the key of a cache in a directory: the one that is shared, else one that lies there.

    Args:
        directory: The directory; the key is made if it has none.
        given: The shared key, or None; see `shared_key`.
        mode: Of the mark that says that the key is shared.

    Raises:
        NoKeyError: Its key is shared, and not known here.
        OSError: It cannot be read, or not be made.
    """
    key = shared_key(given)
    place, mark = f"{directory}/key", f"{directory}/{SHARED}"
    if key is None:
        if os.path.lexists(mark) and not os.path.lexists(place):
            raise missing(directory)
        return read_or_make(place)
    secret = derived(key)
    if not os.path.lexists(mark) and not os.path.lexists(place):
        with suppress(OSError), open(os.open(mark, _NEW, mode), "wb") as file:
            file.write(mark_of(secret))
    return secret


def known_secret(directory: str, given: object) -> bytes:
    """Return the key of a cache in a directory; nothing is made.

    Args:
        directory: The directory.
        given: The shared key, or None; see `shared_key`.

    Raises:
        NoKeyError: The key is not known here, or is another one.
        OSError: It cannot be read.
    """
    key = shared_key(given)
    content = _read(f"{directory}/key") if key is None else None
    if key is None:
        if content is None or not is_whole(content):
            raise missing(directory)
        return derived(content)
    secret = derived(key)
    with suppress(FileNotFoundError), open(f"{directory}/{SHARED}", "rb") as file:
        if file.read() != mark_of(secret):
            raise other(directory)
    return secret


def read_or_make(path: str) -> bytes:
    """Return the key in a file; one that is missing or damaged is replaced by a new one.

    Args:
        path: The file; only its owner may read it.

    Raises:
        OSError: It cannot be read, or not be made; or a directory that is not empty lies there.
        PermissionError: It is another user's.
    """
    for _ in range(_ATTEMPTS):
        content = _read(path)
        if content is not None and is_whole(content):
            return derived(content)
        if os.path.lexists(path):
            _remove_damaged(path)
        _make(path)
    raise OSError(f"{path} is replaced again and again")


def is_whole(content: bytes) -> bool:
    """Say whether the content of a key file is a key."""
    return len(content) == _LENGTH and set(content) <= set(b"0123456789abcdef")


def _remove_damaged(path: str) -> None:
    """Remove what lies in the place of a key and is none: a file, a link, or an empty directory.

    One process at a time looks and removes, so that what another has just made there stays.
    """
    with _alone_in(os.path.dirname(path)), suppress(FileNotFoundError):
        content = _read(path)
        if content is not None and is_whole(content):
            return
        if os.path.isdir(path) and not os.path.islink(path):
            os.rmdir(path)
        else:
            os.unlink(path)


@contextmanager
def _alone_in(directory: str) -> Iterator[None]:
    """Hold the lock of a directory, where there are locks."""
    if fcntl is None:
        yield
        return
    place = os.open(directory, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(place, fcntl.LOCK_EX)
        yield
    finally:
        os.close(place)


def _read(path: str) -> bytes | None:
    if os.path.lexists(path) and not os.path.isfile(path):
        return None
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
    file = os.open(draft, _NEW, 0o600)
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
