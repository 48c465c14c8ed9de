"""How far things are, while they run."""

from __future__ import annotations

from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from hypernodes._extras import import_extra
from hypernodes.callbacks import Callback
from hypernodes.exceptions import CallbackError
from hypernodes.telemetry._board import Board

if TYPE_CHECKING:
    from typing import TextIO

    from hypernodes._engine.observing.tally import Tally
    from hypernodes.callbacks import CallbackContext
    from hypernodes.telemetry._board import Display, Line

__all__ = ["ProgressCallback"]

Style = Literal["auto", "bars", "notebook", "lines"]
_STATE: Final = "hypernodes.telemetry.progress"


class ProgressCallback(Callback):
    """Shows how far pipelines and maps are: how much is done, how fast, and how long it will take.

    There is a line for each pipeline that runs, which counts its nodes, and one for each map, also
    inside pipelines, which counts items. What the items of a map do inside shows only where it is
    a map itself: all of these share a line. Lines tell how many failed, and how many came from a
    cache.

    On a terminal and in Jupyter (with ipywidgets) these are bars of tqdm. Elsewhere, as in logs, a
    line is written now and then, and one at the end. What the program prints meanwhile stays whole.

    Args:
        file: Where to write; None for standard error.
        style: `"bars"` for a terminal, `"notebook"` for Jupyter, `"lines"` for anything else, or
            `"auto"` for what is there when a run starts.
        interval: Seconds between two lines, where there is no terminal.

    Raises:
        MissingDependencyError: tqdm is not installed.
        CallbackError: An argument is wrong.

    Example:
        >>> import sys
        >>> from hypernodes import Pipeline, RuntimeConfig, node
        >>> double = Pipeline([node("double")(lambda x: 2 * x)], name="doubles")
        >>> config = RuntimeConfig(callbacks=[ProgressCallback(sys.stdout)])
        >>> _ = double.map({"x": range(100)}, map_over="x", config=config)  # doctest: +ELLIPSIS
        doubles: 100/100 items [00:00<00:00, ...]
    """

    reads: tuple[()] = ()
    _is_overview = True

    def __init__(
        self, file: TextIO | None = None, *, style: Style = "auto", interval: float = 10.0
    ) -> None:
        import_extra("tqdm", extra="telemetry", user="ProgressCallback")
        if style not in get_args(Style):
            message = f"style={style!r} is unknown; give one of {', '.join(get_args(Style))}"
            raise CallbackError(message, callback="ProgressCallback")
        if file is not None and not hasattr(file, "write"):
            message = f"file={file!r} cannot be written to; give an open text file, or leave it out"
            raise CallbackError(message, callback="ProgressCallback")
        if not _is_seconds(interval):
            message = f"interval={interval!r} has to be a number of seconds, not below 0"
            raise CallbackError(message, callback="ProgressCallback")
        self._choice: tuple[TextIO | None, str, float] = file, style, interval
        self._display: Display | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"_choice": (None, *self._choice[1:]), "_display": None}

    # ------------------------------------------------------------ pipelines

    def on_pipeline_start(self, ctx: CallbackContext) -> None:
        board = self._board(ctx)
        if board is None:
            return
        board.runs += 1
        if _has_nodes(ctx):
            board.expect(ctx, "nodes", len(ctx.pipeline.nodes))

    def on_pipeline_end(self, ctx: CallbackContext) -> None:
        line = self._line(ctx.path, ctx, "nodes")
        if line is not None and _has_nodes(ctx):
            line.total = line.done
        self._count(ctx)
        self._leave(ctx)

    def on_pipeline_error(self, ctx: CallbackContext, error: BaseException) -> None:
        self._count(ctx, error)
        self._leave(ctx)

    # ------------------------------------------------------------ maps

    def on_map_start(self, ctx: CallbackContext, count: int | None) -> None:
        board = self._board(ctx)
        if board is not None:
            board.expect(ctx, "items", count)

    def _on_tally(self, ctx: CallbackContext, tally: Tally) -> None:
        line = self._line(ctx.path, ctx, "items")
        if line is not None:
            line.follow(ctx.run_id, tally)

    def on_map_end(self, ctx: CallbackContext) -> None:
        line = self._line(ctx.path, ctx, "items")
        if line is not None:
            line.settle(ctx.run_id)

    # ------------------------------------------------------------ nodes

    def on_node_end(self, ctx: CallbackContext) -> None:
        self._count(ctx)

    def on_node_error(self, ctx: CallbackContext, error: BaseException) -> None:
        self._count(ctx, error)

    def _count(self, ctx: CallbackContext, error: BaseException | None = None) -> None:
        """Count a node, or a nested pipeline, in the pipeline around it."""
        if ctx.item_index is not None or isinstance(error, CancelledError):
            return
        line = self._line(ctx.path[:-1], ctx, "nodes")
        if line is not None:
            line.add(is_failed=error is not None, is_cached=ctx.cache_hit)

    # ------------------------------------------------------------ what is shown

    def _board(self, ctx: CallbackContext) -> Board | None:
        """Return the lines of the outermost run; None if that is one which a node has started."""
        key = f"{_STATE} {id(self)}"
        if key not in ctx.state:
            is_inside = ctx.depth == 0 and ctx.parent_run_id is not None
            ctx.state[key] = None if is_inside else Board(self._shown())
        return ctx.state[key]  # type: ignore[no-any-return]

    def _line(self, path: tuple[str, ...], ctx: CallbackContext, unit: str) -> Line | None:
        board = self._board(ctx)
        return None if board is None else board.lines.get((path, unit))

    def _leave(self, ctx: CallbackContext) -> None:
        board = self._board(ctx)
        if board is not None:
            board.runs -= 1
            if not board.runs:
                board.close()

    def _shown(self) -> Display:
        """Return where lines are shown."""
        displays = import_extra(
            "hypernodes.telemetry._displays", extra="telemetry", user="ProgressCallback"
        )
        self._display = displays.display_for(*self._choice, self._display)
        return self._display


def _has_nodes(ctx: CallbackContext) -> bool:
    """Tell whether it is a pipeline whose nodes are counted."""
    return ctx.mode == "run" and ctx.item_index is None


def _is_seconds(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
