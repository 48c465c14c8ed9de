"""A callback that checks what is guaranteed of events: pairs, nesting, order and identities."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from hypernodes import Callback

NODE_HOOKS = ("on_node_start", "on_node_end", "on_node_error", "on_node_retry", "on_report")


@dataclass
class Watched:
    """A run, as far as it has come."""

    parent: str | None
    path: tuple
    mode: str
    is_open: bool = True
    map_is_open: bool = False
    had_map: bool = False
    items: set = field(default_factory=set)
    seen_items: set = field(default_factory=set)
    nodes: set = field(default_factory=set)
    children: set = field(default_factory=set)


class Checker(Callback):
    """Notes what is wrong in `wrong`, and all events in `seen`, as `(hook, path, item_index)`."""

    order = -1000
    reads = ()

    def __init__(self):
        self.wrong = []
        self.seen = []
        self.runs = {}

    def check(self):
        """Fail unless all was well, and has come to its end."""
        assert not self.wrong, "\n".join(self.wrong)
        # A run that user code asks for, in a node that was given up, ends when it notices.
        deadline = time.monotonic() + 60
        while (left := self._left()) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not left, f"never ended: {left}"

    def _left(self):
        return [run.path for run in tuple(self.runs.values()) if run.is_open]

    def hooks(self, *path):
        """Return the hooks that were called for a path."""
        return [hook for hook, where, _ in self.seen if where[-len(path) :] == path]

    def _expect(self, fact, what, ctx):
        if not fact:
            self.wrong.append(f"{what}: {ctx!r} item {ctx.item_index}")

    def _note(self, hook, ctx):
        self.seen.append((hook, ctx.path, ctx.item_index))
        names = len(ctx.path) - (ctx.node is not None)
        self._expect(ctx.depth == names - 1, f"{hook} with depth {ctx.depth}", ctx)
        self._expect(ctx.time > 0, f"{hook} without a time", ctx)
        run = self.runs.get(ctx.run_id)
        if run is None:
            self._expect(False, f"{hook} of a run that never started", ctx)
            return Watched(ctx.parent_run_id, ctx.path, ctx.mode)
        self._expect(run.is_open, f"{hook} after the end of its run", ctx)
        self._expect(run.parent == ctx.parent_run_id, f"{hook} with another parent", ctx)
        self._expect(run.mode == ctx.mode, f"{hook} with another mode", ctx)
        return run

    # ------------------------------------------------------------ pipelines

    def on_pipeline_start(self, ctx, pipeline):
        self._expect(ctx.run_id not in self.runs, "a second start", ctx)
        self._expect(ctx.pipeline is pipeline, "another pipeline in the context", ctx)
        parent = self.runs.get(ctx.parent_run_id)
        if ctx.depth and parent is not None:  # else a run that user code asked for: it may outlive
            self._expect(parent.is_open, "a start after the end of the run around", ctx)
            parent.children.add(ctx.run_id)
        self._expect(ctx.depth == 0 or parent is not None, "nested in nothing", ctx)
        self.runs[ctx.run_id] = Watched(ctx.parent_run_id, ctx.path, ctx.mode)
        self._note("on_pipeline_start", ctx)

    def on_pipeline_end(self, ctx, duration):
        self._end_run("on_pipeline_end", ctx, duration)

    def on_pipeline_error(self, ctx, error, duration):
        self._expect(ctx.exception is error is not None, "no exception in the context", ctx)
        self._end_run("on_pipeline_error", ctx, duration)

    def _end_run(self, hook, ctx, duration):
        run = self._note(hook, ctx)
        self._expect(duration >= 0, f"took {duration}", ctx)
        self._expect(not run.nodes, f"ends before its nodes {run.nodes}", ctx)
        self._expect(not run.items, f"ends before its items {run.items}", ctx)
        self._expect(not run.map_is_open, "ends before its map", ctx)
        open_inside = [child for child in run.children if self.runs[child].is_open]
        self._expect(not open_inside, f"ends before {open_inside} inside", ctx)
        run.is_open = False

    # ------------------------------------------------------------ maps and items

    def on_map_start(self, ctx, pipeline, count):
        run = self._note("on_map_start", ctx)
        self._expect(not run.had_map, "a second map in one run", ctx)
        self._expect(count is None or count >= 0, f"{count} items", ctx)
        run.map_is_open = run.had_map = True

    def on_map_end(self, ctx, duration):
        run = self._note("on_map_end", ctx)
        self._expect(run.map_is_open, "the end of no map", ctx)
        self._expect(not run.items, f"a map ends before its items {run.items}", ctx)
        run.map_is_open = False

    def on_item_start(self, ctx, index):
        run = self._note("on_item_start", ctx)
        self._expect(run.map_is_open, "an item outside of a map", ctx)
        self._expect(ctx.item_index == index, f"item {index} in another's context", ctx)
        self._expect(index not in run.seen_items, f"a second start of item {index}", ctx)
        run.items.add(index)
        run.seen_items.add(index)

    def on_item_end(self, ctx, index, duration):
        self._end_item("on_item_end", ctx, index, duration)

    def on_item_error(self, ctx, index, error, duration):
        self._expect(ctx.exception is error is not None, "no exception in the context", ctx)
        self._end_item("on_item_error", ctx, index, duration)

    def _end_item(self, hook, ctx, index, duration):
        run = self._note(hook, ctx)
        self._expect(index in run.items, f"the end of item {index}, which has not started", ctx)
        self._expect(duration >= 0, f"took {duration}", ctx)
        nodes = [key for key in run.nodes if key[1] == index]
        self._expect(not nodes, f"item {index} ends before its nodes {nodes}", ctx)
        run.items.discard(index)

    # ------------------------------------------------------------ nodes

    def on_node_start(self, ctx, node):
        run = self._note("on_node_start", ctx)
        key = ctx.path, ctx.item_index, id(node)
        self._check_node(ctx, node)
        self._expect(key not in run.nodes, "a second start of a node", ctx)
        in_item = run.mode == "run" or ctx.item_index in run.items
        self._expect(in_item, "a node outside of its item", ctx)
        run.nodes.add(key)

    def on_node_end(self, ctx, node, duration):
        self._end_node("on_node_end", ctx, node, duration)

    def on_node_error(self, ctx, node, error, duration):
        self._expect(ctx.exception is error is not None, "no exception in the context", ctx)
        self._end_node("on_node_error", ctx, node, duration)

    def _end_node(self, hook, ctx, node, duration):
        run = self._note(hook, ctx)
        self._check_node(ctx, node)
        self._expect(duration >= 0, f"took {duration}", ctx)
        key = ctx.path, ctx.item_index, id(node)
        self._expect(key in run.nodes, "the end of no node", ctx)
        run.nodes.discard(key)

    def on_node_retry(self, ctx, node, error, attempt, delay):
        run = self._note("on_node_retry", ctx)
        self._check_node(ctx, node)
        self._expect(attempt == ctx.attempt >= 1 and delay >= 0, f"attempt {attempt}", ctx)
        key = ctx.path, ctx.item_index, id(node)
        self._expect(key in run.nodes, "a retry of no node", ctx)

    # ------------------------------------------------------------ caches

    def on_cache_check(self, ctx, node, signature):
        self._note_cache("on_cache_check", ctx, node, signature, is_hit=False)

    def on_cache_hit(self, ctx, node, signature):
        self._note_cache("on_cache_hit", ctx, node, signature, is_hit=True)

    def on_cache_miss(self, ctx, node, signature):
        self._note_cache("on_cache_miss", ctx, node, signature, is_hit=False)

    def on_cache_store(self, ctx, node, signature):
        self._note_cache("on_cache_store", ctx, node, signature, is_hit=False)

    def _note_cache(self, hook, ctx, node, signature, *, is_hit):
        run = self._note(hook, ctx)
        self._check_node(ctx, node)
        self._expect((ctx.path, ctx.item_index, id(node)) in run.nodes, f"{hook} of no node", ctx)
        self._expect(signature == ctx.signature is not None, "another signature", ctx)
        self._expect(ctx.cache_hit is is_hit, f"{hook} with cache_hit={ctx.cache_hit}", ctx)

    def on_report(self, ctx, kind, data):
        run = self._note("on_report", ctx)
        key = ctx.path, ctx.item_index, id(ctx.node)
        self._expect(key in run.nodes, "a report of no node", ctx)

    def _check_node(self, ctx, node):
        self._expect(ctx.node is node and ctx.path[-1] == node.name, "another node", ctx)
