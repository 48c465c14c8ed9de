"""What a function's code, and all of the user's code that it uses, hashes to."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from typing import Any

__all__ = ["hash_code"]


def hash_code(function: Callable[..., Any]) -> str:
    """Return what the code of `function` hashes to, a lowercase hex string."""
    from blake3 import blake3  # noqa: PLC0415

    try:
        text = ast.dump(ast.parse(textwrap.dedent(inspect.getsource(function))))
    except (OSError, TypeError, SyntaxError):
        text = getattr(function, "__qualname__", type(function).__qualname__)
    return blake3(text.encode()).hexdigest()
