"""The file: its name, with the facts of a run in it, and its writing, whole or not at all."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from string import Formatter
from uuid import uuid4

from hypernodes.exceptions import hint

FIELDS = ("run_id", "pipeline")


def check_pattern(path: str | os.PathLike[str]) -> str:
    """Return a path that may hold fields in braces.

    Raises:
        ValueError: It is empty, or has a field that there is not.
    """
    pattern = os.fspath(path)
    if not pattern.strip():
        raise ValueError("path is empty: name the file that is to be written")
    try:
        names = [name for _, name, _, _ in Formatter().parse(pattern) if name is not None]
    except ValueError as error:
        message = f"path {pattern!r} has a brace by itself ({error}); a plain one is written twice"
        raise ValueError(message) from error
    for name in names:
        if name not in FIELDS:
            message = (
                f"path {pattern!r} has a field {name!r} that there is not; "
                f"{hint(name, FIELDS)} (a plain brace is written twice)"
            )
            raise ValueError(message)
    return pattern


def path_of(pattern: str, *, run_id: str, pipeline: str) -> Path:
    """Return the path for one run; of names, what may stand in the name of any file."""
    fields = {"run_id": run_id, "pipeline": pipeline}
    plain = {name: re.sub(r"[^\w.-]+", "_", value)[:80] for name, value in fields.items()}
    return Path(pattern.format(**plain))


def write_whole(path: Path, text: str) -> None:
    """Write a file beside its place and put it there when it is complete.

    Args:
        path: The file; the folders on the way are made.
        text: What it is to hold. What is no valid Unicode is written as an escape.

    Raises:
        OSError: It cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{uuid4().hex}.tmp")
    try:
        draft.write_bytes(text.encode("utf-8", "backslashreplace"))
        draft.replace(path)
    except BaseException:
        with suppress(OSError):
            draft.unlink()
        raise
