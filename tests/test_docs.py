"""What the documents say is true: their code runs, prints what they show, and their links resolve.

Each document runs from top to bottom in one namespace, in a process and a directory of its own, and
every warning is an error. What is checked, and how it is written:

- `# -> value`, after an expression or alone on the line below: the `repr` of its value
- `# raises Error`, after a statement or alone on the line below: the name of the error's class
- a fence of `text` right below a fence of `python`: all that it prints; if it ends with an error, then
  the last lines are what Python prints for it, without the traceback
- a fence of `toml` that begins with `# name.toml`: a config file, there for the code below it
- a fence of `shell`: the targets of make and the scripts that it names exist

A fence without a language is a drawing and is not checked.
"""

import ast
import contextlib
import io
import re
import shlex
import subprocess
import sys
import textwrap
import tokenize
import tomllib
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import hypernodes
from hypernodes import RuntimeConfig

ROOT = Path(__file__).parents[1]
DOCUMENTS = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
LANGUAGES = {"python", "text", "toml", "shell", ""}
MARK = re.compile(r"# (->|raises) (.*)")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FILE_NAME = re.compile(r"# ([\w.-]+\.toml)\n")


# --- Reading a document ---------------------------------------------------------------------------


@dataclass
class Fence:
    """A fenced block; `line` is the number of its first line, `output` the text right below it."""

    language: str
    text: str
    line: int
    output: str | None = None


def fences_of(document: str) -> list[Fence]:
    """Read the fenced blocks; a `text` block becomes the output of the code right above it."""
    fences: list[Fence] = []
    is_below_code = False
    lines = iter(enumerate(document.splitlines(), start=1))
    for number, line in lines:
        if not line.startswith("```"):
            is_below_code = is_below_code and not line.strip()
            continue
        body = [each for _, each in iter(lambda: next(lines), None) if each != "```"] if False else []
        for _, each in lines:
            if each == "```":
                break
            body.append(each)
        fence = Fence(line.removeprefix("```"), "\n".join(body) + "\n", number + 1)
        if fence.language == "text" and is_below_code:
            fences[-1].output = fence.text
        else:
            fences.append(fence)
        is_below_code = fence.language == "python"
    return fences
