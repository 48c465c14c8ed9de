"""The source of a code object: found, checked against the bytecode, and normalised."""

from __future__ import annotations
import __future__

import ast
import copy
import functools
import linecache
import threading
import types
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from hypernodes.cache._walk import encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["find_source"]

_SCOPES: Final = (
    ast.ClassDef,
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.Lambda,
    ast.ListComp,
    ast.SetComp,
    ast.DictComp,
    ast.GeneratorExp,
)


class _Scope(NamedTuple):
    """What a definition lies in."""

    name: str
    is_class: bool


class _Place(NamedTuple):
    """A definition in a file."""

    node: Any
    line: int
    scopes: tuple[_Scope, ...]


_parsing: Final = threading.Lock()


def _parsed(source: str) -> ast.Module:
    """Return the tree of a source.

    Until Python 3.13 all threads share a counter in the parser, which fails where one of them is
    interrupted by another; those of other packages may parse too.
    """
    with _parsing:
        try:
            return ast.parse(source)
        except SystemError:
            return ast.parse(source)


class _File:
    """A parsed file.

    Args:
        lines: Its lines, as `linecache` has them.
    """

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        self._tree = _parsed("".join(lines))
        self._lambdas: list[_Place] | None = None
        self._functions: dict[str, list[_Place]] = {}
        self.imports: set[str] = set()
        for node, scopes in _walk(self._tree, _statements):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                line = min(each.lineno for each in (node, *node.decorator_list))
                place = _Place(node, line, scopes)
                self._functions.setdefault(node.name, []).append(place)
            elif isinstance(node, ast.Import | ast.ImportFrom) and not scopes:
                names = [(each.asname or each.name).partition(".")[0] for each in node.names]
                self.imports.update(names)

    def places(self, name: str) -> list[_Place]:
        """Return the functions of this name, or the lambdas, which take longer to find."""
        if name != "<lambda>":
            return self._functions.get(name, [])
        if self._lambdas is None:
            found = _walk(self._tree, ast.iter_child_nodes)
            self._lambdas = [
                _Place(node, node.lineno, scopes)
                for node, scopes in found
                if isinstance(node, ast.Lambda)
            ]
        return self._lambdas


def _walk(
    tree: ast.AST, children: Callable[[ast.AST], Iterable[ast.AST]]
) -> Iterator[tuple[ast.AST, tuple[_Scope, ...]]]:
    """Yield the nodes below `tree` in their order, each with the scopes that it lies in."""
    pending: list[tuple[ast.AST, tuple[_Scope, ...]]] = [(tree, ())]
    while pending:
        node, scopes = pending.pop()
        yield node, scopes
        if isinstance(node, _SCOPES):
            name = getattr(node, "name", f"<{type(node).__name__}>")
            scopes = (*scopes, _Scope(name, isinstance(node, ast.ClassDef)))
        pending += [(child, scopes) for child in reversed(list(children(node)))]


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    for field in ("body", "handlers", "orelse", "finalbody", "cases"):
        yield from getattr(node, field, ())


_FILES_KEPT: Final = 32
_files: dict[str, _File] = {}


def find_source(code: types.CodeType) -> bytes | None:
    """Return the normalised source of `code`, or None if there is none.

    A file may have been edited since it was imported, and several lambdas share a line. So a piece
    of source counts only if it compiles to this very bytecode.
    """
    try:
        file = _file(code.co_filename)
        places = file.places(code.co_name)
        for place in sorted(places, key=lambda place: abs(place.line - code.co_firstlineno)):
            if _compiles_to(place, file.imports, code):
                return _normalised(place.node)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return None


def _file(filename: str) -> _File:
    linecache.checkcache(filename)
    lines = linecache.getlines(filename)
    known = _files.get(filename)
    if known is None or known.lines is not lines:
        for oldest in list(_files)[: max(0, len(_files) + 1 - _FILES_KEPT)]:
            _files.pop(oldest, None)
        known = _files[filename] = _File(lines)
    return known


def _compiles_to(place: _Place, imports: set[str], code: types.CodeType) -> bool:
    """Whether a piece of source gives `code`; the compiler treats imported names in its own way."""
    names = sorted(imports & {name for each in (code, *_nested(code)) for name in _names(each)})
    head: list[Any] = [_at(ast.Import([_at(ast.alias(name))])) for name in names]
    tree = ast.Module(body=[*head, _wrap(place, code.co_freevars)], type_ignores=[])
    flags = code.co_flags & _FUTURE_FLAGS
    compiled = compile(tree, "", "exec", flags, dont_inherit=True)
    return any(_same(code, each) for each in _nested(compiled))


def _wrap(place: _Place, free: tuple[str, ...]) -> ast.stmt:
    """Return the definition within scopes like its own: names resolve, and mangle, as they did."""
    node = place.node
    is_lambda = isinstance(node, ast.Lambda)
    statement: ast.stmt = _at(ast.Expr(node)) if is_lambda else _undecorated(node)
    outermost = next((scope for scope in place.scopes if not scope.is_class), None)
    for scope in reversed(place.scopes):
        names = free if scope is outermost else ()
        statement = _class(scope, statement) if scope.is_class else _def(scope, names, statement)
    return statement


def _undecorated(node: Any) -> Any:
    fields = {name: getattr(node, name) for name in node._fields}
    return ast.copy_location(type(node)(**{**fields, "decorator_list": []}), node)


def _class(scope: _Scope, statement: ast.stmt) -> ast.stmt:
    source: Any = copy.copy(_EMPTY_CLASS)
    source.name, source.body = scope.name, [statement]
    return source  # type: ignore[no-any-return]


def _def(scope: _Scope, names: Iterable[str], statement: ast.stmt) -> ast.stmt:
    source: Any = copy.copy(_EMPTY_DEF)
    source.name, source.body, source.args = scope.name, [statement], copy.copy(source.args)
    source.args.args = [_at(ast.arg(name)) for name in names if name != "__class__"]
    return source  # type: ignore[no-any-return]


def _at(node: Any) -> Any:
    """Return `node` with a place, which the compiler asks for."""
    node.lineno = node.end_lineno = 1
    node.col_offset = node.end_col_offset = 0
    return node


_EMPTY_CLASS, _EMPTY_DEF = ast.parse("class _: pass\ndef _(): pass").body


def _names(code: types.CodeType) -> tuple[str, ...]:
    return (*code.co_names, *code.co_varnames, *code.co_cellvars, *code.co_freevars)


def _nested(code: types.CodeType) -> Iterator[types.CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield constant
            yield from _nested(constant)


_FUTURE_FLAGS: Final = functools.reduce(
    lambda flags, name: flags | getattr(__future__, name).compiler_flag,
    __future__.all_feature_names,
    0,
)
_NESTED: Final = 0x10
_COMPARED: Final = (
    "co_code",
    "co_name",
    "co_names",
    "co_varnames",
    "co_freevars",
    "co_cellvars",
    "co_argcount",
    "co_posonlyargcount",
    "co_kwonlyargcount",
)


def _same(one: Any, other: Any) -> bool:
    """Whether two code objects, or constants in them, are the same but for their places."""
    if isinstance(one, types.CodeType) and isinstance(other, types.CodeType):
        return (
            all(getattr(one, name) == getattr(other, name) for name in _COMPARED)
            and one.co_flags | _NESTED == other.co_flags | _NESTED
            and len(one.co_consts) == len(other.co_consts)
            and all(map(_same, one.co_consts, other.co_consts))
        )
    return encode(one, identify=_no_label) == encode(other, identify=_no_label)


def _no_label(_: Any) -> bytes:
    """Stand for a definition: the compiler puts none among the constants."""
    return b""


_LEFT_OUT: Final = frozenset({"ctx", "kind", "type_comment"})
_WITH_DOCSTRING: Final = (ast.FunctionDef, ast.AsyncFunctionDef)


def _normalised(node: Any) -> bytes:
    """Return the source of a definition without places, comments, docstrings and decorators.

    The docstrings of classes inside stay: schemas and prompts are made of them.
    """
    words: list[str] = []
    _write(_undecorated(node) if isinstance(node, _WITH_DOCSTRING) else node, words.append)
    return " ".join(words).encode("utf-8", "surrogatepass")


def _write(node: Any, write: Callable[[str], object]) -> None:
    """Write a node without empty fields: which there are depends on the version of Python."""
    if isinstance(node, ast.Constant):
        write(hex(node.value) if type(node.value) is int else repr(node.value))
        return
    write(type(node).__name__ + "(")
    for name in node._fields:
        value = _field(node, name)
        if value is None or value == [] or name in _LEFT_OUT:
            continue
        write(name + "=")
        if isinstance(value, list):
            _write_list(value, write)
        elif isinstance(value, ast.AST):
            _write(value, write)
        else:
            write(repr(value))
    write(")")


def _field(node: Any, name: str) -> Any:
    value = getattr(node, name, None)
    if name == "body" and isinstance(node, _WITH_DOCSTRING):
        return _without_docstring(value)
    if isinstance(node, ast.JoinedStr):
        # Python 3.12 puts empty strings into some format specifications.
        return [each for each in node.values if getattr(each, "value", None) != ""]
    return value


def _write_list(nodes: list[Any], write: Callable[[str], object]) -> None:
    write("[")
    for node in nodes:
        if isinstance(node, ast.AST):
            _write(node, write)
        else:
            write(repr(node))
    write("]")


def _without_docstring(body: Any) -> Any:
    first = body[0]
    is_string = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return body[1:] if is_string and isinstance(first.value.value, str) else body
