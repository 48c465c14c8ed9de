"""What the documents say is true: their code runs, prints what they show, and their links resolve.

Each document runs from top to bottom in one namespace, in a process and a directory of its own, and
every warning is an error. What is checked, and how it is written:

- `# -> value`, after an expression or alone on the line below it: the `repr` of its value
- `# raises Error`, after a statement or alone on the line below it: the name of the error's class
- a fence of `text` right below one of `python`: all that it prints; where it raises, the last lines
  are what Python prints for the error, without the traceback
- a fence of `toml`: a config; if it begins with `# name.toml`, it is a file for the code below it
- a fence of `shell`: the targets of make and the scripts that it names are there

Text elsewhere, and a fence without a language, is a drawing and is not checked.
"""

import ast
import contextlib
import io
import re
import shlex
import subprocess
import sys
import tokenize
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
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CONFIG_FILE = re.compile(r"# ([\w.-]+\.toml)\n")
MARK = re.compile(r"# (->|raises) +(.+)")
STORE = ast.Name("_value_of_expression", ast.Store())
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


# --- Reading --------------------------------------------------------------------------------------


@dataclass
class Fence:
    """A fenced block that begins at `line`; `output` is the text right below it."""

    language: str
    text: str
    line: int
    output: str = ""


def fences_of(document: str) -> list[Fence]:
    """Read the fences; text right below code becomes the output of the code."""
    fences: list[Fence] = []
    end = 0
    for match in FENCE.finditer(document):
        language, text = match.groups()
        is_below = not document[end : match.start()].strip()
        if language == "text" and is_below and fences and fences[-1].language == "python":
            fences[-1].output = text
        else:
            fences.append(Fence(language, text, document.count("\n", 0, match.start(2)) + 1))
        end = match.end()
    return fences


def prose_of(document: str) -> str:
    """Take out what is code."""
    return re.sub(r"`[^`\n]*`", "", FENCE.sub("", document))


def marks_of(code: str) -> dict[int, tuple[str, str, bool]]:
    """Find the marks: by line, what is claimed, and whether the comment stands alone."""
    marks = {}
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        match = MARK.match(token.string) if token.type == tokenize.COMMENT else None
        if match:
            alone = not token.line[: token.start[1]].strip()
            marks[token.start[0]] = (match[1], match[2].strip(), alone)
    return marks


# --- Running, in a process of its own -------------------------------------------------------------


def run_document(path: Path) -> list[str]:
    """Run the code of a document up to the first block that is wrong; return what is wrong."""
    module = sys.modules["__main__"] = ModuleType("__main__")
    for fence in fences_of(path.read_text(encoding="utf-8")):
        if fence.language == "python":
            wrong = run_code(fence, path, module.__dict__)
            if wrong:
                return wrong
        name = CONFIG_FILE.match(fence.text) if fence.language == "toml" else None
        if name:
            Path(name[1]).write_text(fence.text, encoding="utf-8")
    return []


def run_code(fence: Fence, path: Path, namespace: dict[str, Any]) -> list[str]:
    """Run one block; return what is wrong."""
    printed, trace = io.StringIO(), ""
    wrong: list[str] = []
    try:
        with contextlib.redirect_stdout(printed):
            for statement, mark in marked_statements(fence.text):
                # The traceback and `inspect.getsource` find the line in the document itself.
                ast.increment_lineno(statement, fence.line - 1)
                problem = run_statement(statement, mark, str(path), namespace)
                wrong += [f"line {statement.lineno}: {problem}"] if problem else []
    except BaseException as error:  # a document may show how a run ends
        printed.writelines(traceback.format_exception_only(error))
        trace = "".join(traceback.format_exception(error))
    if printed.getvalue() != fence.output:
        shown = f"--- shown\n{fence.output}--- printed\n{printed.getvalue()}{trace}"
        wrong.append(f"line {fence.line}: the output differs\n{shown}")
    return wrong


def marked_statements(code: str) -> Iterator[tuple[ast.stmt, tuple[str, str] | None]]:
    """Yield the statements with their marks; raise for a mark that belongs to none."""
    marks = marks_of(code)
    for statement in ast.parse(code).body:
        end = statement.end_lineno or statement.lineno
        below = marks.get(end + 1)
        mark = marks.pop(end, None) or (marks.pop(end + 1) if below and below[2] else None)
        yield statement, mark[:2] if mark else None
    if marks:
        raise AssertionError(f"marks that belong to no statement: {marks}")


def run_statement(
    statement: ast.stmt, mark: tuple[str, str] | None, path: str, namespace: dict[str, Any]
) -> str | None:
    """Run one statement; return what is wrong with its mark."""
    claim, text = mark or ("", "")
    if claim == "->" and not isinstance(statement, ast.Expr):
        return "only an expression has a value"
    if claim == "->":
        statement = ast.copy_location(ast.Assign([STORE], statement.value), statement)
    code = compile(ast.fix_missing_locations(ast.Module([statement], [])), path, "exec")
    try:
        exec(code, namespace)  # noqa: S102 - the project's own documents
    except BaseException as error:
        if claim != "raises":
            raise
        raised = type(error).__name__
        return None if raised == text else f"it raises {raised} ({error}), not {text}"
    if claim == "raises":
        return f"it does not raise {text}"
    value = repr(namespace.pop(STORE.id, None))
    return None if claim != "->" or value == text else f"it is {value}, not {text}"


# --- The tests ------------------------------------------------------------------------------------


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def run(document: Path, directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", __file__, document],
        cwd=directory,
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize("name", DOCUMENTS)
def test_code_does_what_the_document_shows(name, tmp_path):
    result = run(ROOT / name, tmp_path)
    assert result.returncode == 0, f"{name}\n{result.stdout}{result.stderr}"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_fence_is_of_a_kind_that_is_checked(name):
    document = read(name)
    assert document.count("```") == 2 * len(FENCE.findall(document))
    for fence in fences_of(document):
        assert fence.language in LANGUAGES, f"{name}, line {fence.line}"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_config_files_are_configs(name, tmp_path):
    for fence in fences_of(read(name)):
        if fence.language == "toml":
            path = tmp_path / "config.toml"
            path.write_text(fence.text, encoding="utf-8")
            assert isinstance(RuntimeConfig.from_file(path), RuntimeConfig)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_commands_name_what_is_there(name):
    targets = re.findall(r"^([a-z]+):", read("Makefile"), re.MULTILINE)
    for fence in fences_of(read(name)):
        for line in fence.text.splitlines() if fence.language == "shell" else ():
            words = shlex.split(line, comments=True)
            if words[:1] == ["make"]:
                assert words[1] in targets, line
            for word in words:
                assert not word.startswith("examples/") or (ROOT / word).exists(), line


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name):
    for link in LINK.findall(prose_of(read(name))):
        place, _, anchor = link.partition("#")
        if "://" in place:
            continue
        path = (ROOT / name).parent / place if place else ROOT / name
        assert path.exists(), link
        assert path.resolve().is_relative_to(ROOT), link
        assert not anchor or anchor in anchors_of(path.read_text(encoding="utf-8")), link


def anchors_of(document: str) -> set[str]:
    """Return the anchors that headings get: lower case, hyphens for spaces, no punctuation."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_leads_to_every_document():
    links = LINK.findall(prose_of(read("README.md")))
    assert [name for name in DOCUMENTS[1:] if name not in links] == []


def test_every_error_is_explained():
    document = read("docs/errors.md")
    errors = [name for name in hypernodes.__all__ if name.endswith(("Error", "Warning"))]
    assert [name for name in errors if f"`{name}`" not in document] == []


def test_the_readme_has_its_figures():
    assert "FILL" not in read("README.md")


# --- The checker itself ---------------------------------------------------------------------------


def check(tmp_path: Path, *lines: str) -> tuple[int, str]:
    """Run a document of these lines."""
    document = tmp_path / "document.md"
    document.write_text("\n".join(["# Title", "", *lines, ""]), encoding="utf-8")
    result = run(document, tmp_path)
    return result.returncode, result.stdout + result.stderr


@pytest.mark.parametrize(
    "lines",
    [
        ["```python", "1 + 1  # -> 2", "```"],
        ["```python", "[", "    1,", "]", "# -> [1]", "```"],
        ["```python", "print(1)", "```", "", "```text", "1", "```"],
        ["```python", "int('a')  # raises ValueError", "```"],
        ["```python", "1 / 0", "```", "```text", "ZeroDivisionError: division by zero", "```"],
        ["```python", "a = 1", "```", "", "Prose.", "", "```python", "a  # -> 1", "```"],
        ["```toml", "# a.toml", "retries = 1", "```", "```python", "open('a.toml').close()", "```"],
    ],
)
def test_what_is_true_passes(tmp_path, lines):
    assert check(tmp_path, *lines) == (0, "")


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["```python", "1 + 1  # -> 3", "```"], "line 4: it is 2, not 3"),
        (["```python", "a = 2  # -> 2", "```"], "only an expression has a value"),
        (["```python", "if True:", "    2  # -> 2", "    3", "```"], "belong to no statement"),
        (["```python", "1  # raises ValueError", "```"], "it does not raise ValueError"),
        (["```python", "1 / 0  # raises ValueError", "```"], "it raises ZeroDivisionError"),
        (["```python", "1 / 0", "```"], "ZeroDivisionError: division by zero"),
        (["```python", "print(1)", "```"], "the output differs"),
        (["```python", "1", "```", "```text", "ValueError: a", "```"], "the output differs"),
        (["```python", "import warnings", "warnings.warn('old')", "```"], "UserWarning: old"),
    ],
)
def test_what_is_false_is_caught(tmp_path, lines, told):
    status, output = check(tmp_path, *lines)
    assert status == 1
    assert told in output


if __name__ == "__main__":
    problems = run_document(Path(sys.argv[1]))
    sys.stdout.writelines(f"{problem}\n" for problem in problems)
    sys.exit(bool(problems))
