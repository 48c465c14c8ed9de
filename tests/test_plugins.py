"""Plugins, the forms that callbacks take, and what is refused when they are registered."""

from __future__ import annotations

import functools
import logging
import traceback
from importlib import import_module
from types import ModuleType

import pytest

from hypernodes import (
    Callback,
    CallbackError,
    MissingDependencyError,
    Pipeline,
    RuntimeConfig,
    node,
    register_plugins,
    unregister_plugins,
)
from hypernodes._dispatch.forms import phase_of
from hypernodes._dispatch.reads import values_read
from hypernodes._dispatch.specs import ARGUMENTS

PIPELINE = Pipeline([node("y")(lambda x: 2 * x)], name="p")
SEEN: list[str] = []


class Ends(Callback):
    """Keeps the names of nodes."""

    def on_node_end(self, node):
        SEEN.append(node.name)


ENDS = Ends()


def make_ends():
    return Ends()


def phases(phase, config, data):
    SEEN.append(phase)


@pytest.fixture(autouse=True)
def _nothing_seen():
    SEEN.clear()


def run(*callbacks, **options):
    config = RuntimeConfig(executor="sequential", callbacks=callbacks, **options)
    return PIPELINE.run({"x": 1}, config=config)


# ---------------------------------------------------------------- forms


@pytest.mark.parametrize(
    "form",
    [
        Ends(),
        Ends,
        make_ends,
        lambda: ENDS,
        "test_plugins:Ends",
        "test_plugins:make_ends",
        "test_plugins:ENDS",
        "test_plugins.Ends",
    ],
    ids=["instance", "class", "factory", "lambda", "named", "made", "kept", "dotted"],
)
def test_callbacks_take_many_forms(form):
    run(form)
    assert SEEN == ["y"]


def test_a_module_with_hooks_is_a_callback():
    module = ModuleType("hooks")
    module.on_node_end = lambda node: SEEN.append(node.name)
    run(module)
    assert SEEN == ["y"]


def test_any_object_with_hooks_is_a_callback():
    class Plain:
        def on_node_end(self, node):
            SEEN.append(node.name)

    run(Plain())
    assert SEEN == ["y"]


def test_classes_and_factories_are_called_once_for_the_same_callbacks():
    made = []

    class Counted(Ends):
        def __init__(self):
            made.append(self)

    config = RuntimeConfig(executor="sequential", callbacks=[Counted])
    PIPELINE.run({"x": 1}, config=config)
    PIPELINE.run({"x": 1}, config=config.replace(retries=1))
    assert len(made) == 1


@pytest.mark.parametrize("form", [phases, "test_plugins:phases"])
def test_functions_are_told_phases(form):
    run(form)
    assert SEEN == ["pre_pipeline", "pre_node", "post_node", "post_pipeline"]


def test_all_phases_have_their_names():
    assert [phase_of(hook) for hook in ARGUMENTS if hook != "wrap_node"] == [
        "pre_pipeline",
        "post_pipeline",
        "error_pipeline",
        "pre_node",
        "post_node",
        "error_node",
        "retry_node",
        "cache_check",
        "cache_hit",
        "cache_miss",
        "cache_store",
        "pre_map",
        "post_map",
        "pre_item",
        "post_item",
        "error_item",
        "pre_executor",
        "post_executor",
        "report",
    ]


def test_functions_get_the_state_with_the_arguments_while_the_event_runs():
    later = []

    def first(phase, config, data):
        if phase == "pre_node":
            assert data["inputs"] == {"x": 1}
            assert config.executor == RuntimeConfig(executor="sequential").executor
            return {"count": data.get("count", 0) + 1}
        return None

    def second(phase, config, data):
        later.append((phase, dict(data)))

    run(first, second)
    facts = dict(later)
    assert facts["pre_pipeline"].keys() == {"pipeline", "inputs"}
    assert facts["post_node"].keys() == {"node", "output", "duration", "count"}
    assert facts["post_pipeline"]["count"] == 1


def test_classes_and_functions_share_the_state_of_one_run():
    found = []

    class Reads(Callback):
        order = 60

        def on_pipeline_end(self, ctx):
            found.append(ctx.state["seen"])

    run(lambda phase, config, data: {"seen": phase}, Reads())
    assert found == ["post_pipeline"]


# ---------------------------------------------------------------- what is refused


def hooked(name, function):
    return type("Wrong", (Callback,), {name: function})


WRONG = {
    "misspelt": (hooked("on_node_strat", lambda self, node: 0), "on_node_start"),
    "unknown": (hooked("on_click", lambda self: 0), "on_"),
    "wrapper": (hooked("wrap_nodes", lambda self, call: 0), "wrap_node"),
    "argument": (hooked("on_node_end", lambda self, nod: 0), "did you mean 'node'"),
    "others argument": (hooked("on_node_end", lambda self, inputs: 0), "inputs"),
    "star": (hooked("on_node_end", lambda self, *args: 0), "args"),
    "stars": (hooked("on_node_end", lambda self, **kwargs: 0), "kwargs"),
    "order": (type("Wrong", (Ends,), {"order": "first"}), "order"),
    "mode": (type("Wrong", (Ends,), {"async_mode": 1}), "async_mode"),
    "errors": (type("Wrong", (Ends,), {"errors": "ignore"}), "errors"),
    "reads": (type("Wrong", (Ends,), {"reads": ("input",)}), "reads"),
}


@pytest.fixture(params=WRONG.values(), ids=WRONG.keys())
def wrong(request):
    return request.param


@pytest.mark.parametrize("as_instance", [False, True])
def test_wrong_callbacks_are_refused_when_the_config_is_built(wrong, as_instance):
    cls, named = wrong
    with pytest.raises(CallbackError) as caught:
        RuntimeConfig(callbacks=[cls() if as_instance else cls])
    assert named in str(caught.value)
    assert "Wrong" in str(caught.value)


def test_wrong_plugins_are_refused_and_none_is_registered(wrong):
    with pytest.raises(CallbackError, match="Wrong"):
        register_plugins(Ends(), wrong[0])
    run()
    assert SEEN == []


def test_coroutine_hooks_are_refused():
    async def on_node_end(self, node):
        pass

    with pytest.raises(CallbackError, match="coroutine"):
        RuntimeConfig(callbacks=[hooked("on_node_end", on_node_end)])


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (3, "3 is no callback"),
        (object(), "is no callback"),
        (lambda x: x, "is no callback"),
        (len, "is no callback"),
        ("test_plugins:Nothing", "Nothing"),
        ("no_such_module:thing", "no_such_module"),
        ("thing", "thing"),
        (lambda: 3, "has no hooks"),
        (type("Needs", (Ends,), {"__init__": lambda self, x: None}), "give an instance"),
    ],
    ids=str,
)
def test_what_is_no_callback_is_refused(given, named):
    with pytest.raises(CallbackError, match=named):
        RuntimeConfig(callbacks=[given])


def test_a_single_callback_has_to_be_put_into_a_list():
    with pytest.raises(ValueError, match="put it into one"):
        RuntimeConfig(callbacks=Ends())


def test_a_factory_that_fails_is_named():
    def broken():
        raise OSError("full")

    with pytest.raises(CallbackError, match=r"broken.*OSError: full"):
        RuntimeConfig(callbacks=[broken])


def test_a_missing_extra_surfaces_as_itself():
    def needs_more():
        raise MissingDependencyError("pip install more", extra="more")

    with pytest.raises(MissingDependencyError):
        RuntimeConfig(callbacks=[needs_more])


def test_arguments_with_defaults_of_their_own_are_left_alone():
    class Optional(Callback):
        def on_node_end(self, node, prefix="-", *, duration=None):
            SEEN.append((prefix, node.name, duration >= 0))

    run(Optional())
    assert SEEN == [("-", "y", True)]


# ---------------------------------------------------------------- registering


def test_plugins_observe_all_runs_besides_the_callbacks_of_the_config():
    register_plugins(Ends)
    run()
    run(Ends())
    assert SEEN == ["y"] * 3


def test_among_equal_order_plugins_come_first():
    def noting(name, order=50):
        def on_node_end(self):
            SEEN.append(name)

        return type(name, (Callback,), {"order": order, "on_node_end": on_node_end})()

    register_plugins(noting("plugin"), noting("late plugin", 70))
    run(noting("own"), noting("early", 10))
    assert SEEN == ["early", "plugin", "own", "late plugin"]


def test_unregistered_plugins_observe_no_more():
    first, second = Ends(), Ends()
    register_plugins(first, second)
    unregister_plugins(first)
    run()
    assert SEEN == ["y"]
    unregister_plugins()
    run()
    assert SEEN == ["y"]


def test_a_class_can_be_unregistered_by_itself():
    register_plugins(Ends)
    unregister_plugins(Ends)
    run()
    assert SEEN == []


def test_registering_twice_is_registering_once_and_two_of_a_class_are_two():
    plugin = Ends()
    register_plugins(plugin)
    register_plugins(plugin)
    run()
    assert SEEN == ["y"]
    register_plugins(Ends())
    run()
    assert SEEN == ["y"] * 3


def test_unregistering_what_is_not_registered_is_refused():
    with pytest.raises(CallbackError, match="not registered"):
        unregister_plugins(Ends())


def test_plugins_can_be_disabled(monkeypatch):
    register_plugins(Ends())
    monkeypatch.setenv("HYPERNODES_DISABLE_PLUGINS", "1")
    run()
    assert SEEN == []
    monkeypatch.setenv("HYPERNODES_DISABLE_PLUGINS", "0")
    run()
    assert SEEN == ["y"]


def test_callbacks_made_before_plugins_stay_the_same_objects():
    made = []

    class Counted(Ends):
        def __init__(self):
            made.append(self)

    config = RuntimeConfig(executor="sequential", callbacks=[Counted])
    PIPELINE.run({"x": 1}, config=config)
    register_plugins(Ends())
    PIPELINE.run({"x": 1}, config=config)
    assert len(made) == 1
    assert SEEN == ["y"] * 3


def test_plugins_observe_worker_processes_from_the_driver():
    register_plugins(Ends())
    PIPELINE.map({"x": [1, 2]}, map_over="x", config=RuntimeConfig(executor="process"))
    assert SEEN == ["y", "y"]


# ---------------------------------------------------------------- entry points


PACKAGE = """
from hypernodes import Callback

class Plugin(Callback):
    def on_node_end(self, node):
        print("seen", node.name)

class Broken(Callback):
    def on_node_ent(self):
        pass
"""
ENTRY_POINTS = """[hypernodes.plugins]
missing = my_plugin:Missing
broken = my_plugin:Broken
good = my_plugin:Plugin
"""
SCRIPT = """
import sys
sys.path.insert(0, {folder!r})
from hypernodes import Pipeline, RuntimeConfig, node
if __name__ == "__main__":
    Pipeline([node("y")(lambda x: x)]).run({{"x": 1}}, config=RuntimeConfig(executor={executor!r}))
"""


@pytest.fixture
def installed(tmp_path):
    folder = tmp_path / "site"
    metadata = folder / "my_plugin-1.0.dist-info"
    metadata.mkdir(parents=True)
    (folder / "my_plugin.py").write_text(PACKAGE)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: my-plugin\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(ENTRY_POINTS)
    return str(folder)


@pytest.mark.parametrize("executor", ["sequential", "process"])
def test_entry_points_are_plugins_and_broken_ones_are_reported(run_script, installed, executor):
    result = run_script(SCRIPT.format(folder=installed, executor=executor))
    assert result.stdout == "seen y\n"
    assert "plugin 'missing' (my_plugin:Missing)" in result.stderr
    assert "plugin 'broken' (my_plugin:Broken)" in result.stderr
    assert "on_node_end" in result.stderr  # what it was meant to be


def test_disabled_entry_points_are_not_even_loaded(run_script, installed):
    source = SCRIPT.format(folder=installed, executor="sequential")
    source += "\nassert 'my_plugin' not in sys.modules\n"
    result = run_script(source, env={"HYPERNODES_DISABLE_PLUGINS": "1"})
    assert (result.stdout, result.stderr) == ("", "")


# ---------------------------------------------------------------- names in files


def test_callbacks_in_a_file_are_names(tmp_path):
    path = tmp_path / "hypernodes.toml"
    path.write_text('executor = "sequential"\ncallbacks = ["test_plugins:Ends"]\n')
    config = RuntimeConfig.from_file(path)
    PIPELINE.run({"x": 1}, config=config)
    assert SEEN == ["y"]
    assert RuntimeConfig(**config.model_dump(mode="json")) == config


def test_classes_and_functions_are_described_by_their_names():
    config = RuntimeConfig(callbacks=[Ends, phases])
    assert config.model_dump(mode="json")["callbacks"] == [
        "test_plugins:Ends",
        "test_plugins:phases",
    ]
    with pytest.raises(ValueError, match="name it"):
        RuntimeConfig(callbacks=[Ends()]).model_dump(mode="json")


def copied(text):
    """Return an equal string that is another object."""
    return "".join(list(text))


class Told:
    """Has a method that is a callback."""

    def phases(self, phase, config, data):
        SEEN.append(phase)


@pytest.mark.parametrize(
    "form",
    [lambda: ENDS, lambda: copied("test_plugins:ENDS"), lambda told=Told(): told.phases],  # noqa: B008 - one for both calls
    ids=["instance", "name", "method"],
)
def test_what_is_registered_twice_is_called_once_and_can_be_unregistered(form):
    register_plugins(form(), form())
    register_plugins(form())
    run()
    assert SEEN.count("y") + SEEN.count("post_node") == 1
    unregister_plugins(form())
    SEEN.clear()
    run()
    assert not SEEN


def test_configs_with_the_same_method_are_equal():
    told = Told()
    config = RuntimeConfig(callbacks=[told.phases])
    assert config == RuntimeConfig(callbacks=[told.phases])
    assert hash(config) == hash(RuntimeConfig(callbacks=[told.phases]))
    assert config != RuntimeConfig(callbacks=[Told().phases])


# ---------------------------------------------------------------- what hooks read


def passed_on(self, ctx, other=None):
    copy = ctx
    return copy.path


def replaced(self, ctx, other=None):
    ctx = other
    return ctx.path


@pytest.mark.parametrize(
    ("hook", "values"),
    [
        (lambda self, ctx: ctx.path, set()),
        (lambda self, ctx: (ctx.path, ctx.run_id, ctx.state["x"]), set()),
        (lambda self, ctx, node: ctx.state.get(ctx.path, node), set()),
        (lambda self, ctx: ctx.inputs, {"inputs"}),
        (lambda self, ctx: len(ctx.outputs or ctx.path), {"outputs"}),
        (lambda self, ctx: str(ctx), {"inputs", "outputs"}),
        (lambda self, ctx: lambda: ctx.path, {"inputs", "outputs"}),
        (lambda self, ctx: [ctx for _ in "ab"], {"inputs", "outputs"}),
        (lambda self, ctx: locals(), {"inputs", "outputs"}),
        (lambda self, ctx: ctx.__dict__["inputs"], {"inputs", "outputs"}),
        (lambda *args: args[-1].path, {"inputs", "outputs"}),
        (lambda self, ctx, node: (ctx, node), {"inputs", "outputs"}),
        (passed_on, {"inputs", "outputs"}),
        (replaced, {"inputs", "outputs"}),
        (len, {"inputs", "outputs"}),
    ],
)
def test_what_a_hook_reads_of_its_context_is_known_from_its_code(hook, values):
    assert values_read(hook, "ctx") == values


def test_logging_goes_to_the_packages_logger(caplog):
    class Bad(Callback):
        def on_node_end(self):
            raise ValueError("no")

    with caplog.at_level(logging.ERROR, logger="hypernodes"):
        run(Bad())
    (record,) = caplog.records
    assert record.name == "hypernodes.callbacks"
    assert record.exc_info is not None


# ---------------------------------------------------------------- what is registered, and when


def counting(events):
    class Counts(Callback):
        def on_node_start(self):
            events.append("start")

    return Counts()


@pytest.mark.parametrize("executor", ["sequential", "thread"])
def test_a_plugin_that_came_and_went_while_a_run_started_is_called_no_more(executor):
    events = []
    plugin = counting(events)

    class Registers(Callback):
        def on_pipeline_start(self):
            if not events:
                events.append("registered")
                register_plugins(plugin)

        def on_node_end(self):
            pass

    pipeline = Pipeline([node("a")(lambda x: x), node("b")(lambda a: a)])
    config = RuntimeConfig(executor=executor, callbacks=[Registers()])
    pipeline.run({"x": 1}, config=config)
    unregister_plugins(plugin)
    events[:] = ["registered"]
    pipeline.run({"x": 1}, config=config)
    assert events == ["registered"]


def test_a_plugin_that_is_registered_again_is_called_again():
    events = []
    plugin = counting(events)
    for _ in range(3):
        register_plugins(plugin)
        run()
        unregister_plugins(plugin)
        run()
    assert events == ["start"] * 3


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        (".mod:name", "not to be found"),
        ("hypernodes:Calback", "did you mean 'Callback'"),
        ("broken_by_division:x", "ZeroDivisionError"),
        ("broken_by_exit:x", "SystemExit"),
        ("broken_by_syntax:x", "SyntaxError"),
    ],
)
def test_names_that_cannot_be_imported_are_refused_with_the_reason(
    place, reason, tmp_path, monkeypatch
):
    (tmp_path / "broken_by_division.py").write_text("1 / 0")
    (tmp_path / "broken_by_exit.py").write_text("raise SystemExit(3)")
    (tmp_path / "broken_by_syntax.py").write_text("def")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(CallbackError, match=reason) as caught:
        RuntimeConfig(callbacks=[place])
    assert place in str(caught.value)
    assert "another exception" not in "".join(traceback.format_exception(caught.value))


def test_a_module_by_its_name_is_a_callback(tmp_path, monkeypatch):
    source = "seen = []\n\ndef on_node_end(node):\n    seen.append(node.name)\n"
    (tmp_path / "module_with_hooks.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    run("module_with_hooks")
    assert import_module("module_with_hooks").seen == ["y"]


async def asynchronous(phase, config, data):
    raise NotImplementedError  # it is refused, and so never called


def generating(phase, config, data):
    yield


@pytest.mark.parametrize(
    ("function", "kind"), [(asynchronous, "coroutine"), (generating, "generator")]
)
def test_functions_that_a_plain_call_does_not_run_are_refused(function, kind):
    with pytest.raises(CallbackError, match=kind):
        RuntimeConfig(callbacks=[function])


def test_generators_are_no_hooks():
    class Yields(Callback):
        def on_node_end(self):
            yield

    with pytest.raises(CallbackError, match="generator"):
        RuntimeConfig(callbacks=[Yields])


def test_a_partial_is_a_hook():
    class Partial(Callback):
        on_node_end = functools.partial(lambda seen, node: seen.append(node.name), SEEN)

    run(Partial())
    assert SEEN == ["y"]


def test_own_arguments_stand_behind_those_by_position():
    class Hidden(Callback):
        def on_node_end(self, own=1, node=None, /):
            raise NotImplementedError

    with pytest.raises(CallbackError, match="'own' by position only"):
        RuntimeConfig(callbacks=[Hidden])


def test_a_file_with_a_wrong_callback_is_named(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text('callbacks = ["nope:x"]')
    with pytest.raises(CallbackError) as caught:
        RuntimeConfig.from_file(path)
    assert str(path) in caught.value.__notes__[0]


ENTRIES = """
import sys, threading
from hypernodes import Pipeline, node, unregister_plugins
sys.path.insert(0, ".")
pipeline = Pipeline([node("y")(lambda x: x)])
FIRST
runs = [threading.Thread(target=pipeline.run, args=({"x": 1},)) for _ in range(4)]
for each in runs:
    each.start()
for each in runs:
    each.join()
print(sys.modules["plugin_that_works"].seen.count("start"))
"""
WORKS = """
import time
from hypernodes import Callback
seen = []
time.sleep(0.2)
class Works(Callback):
    def on_pipeline_start(self):
        seen.append("start")
"""


@pytest.mark.parametrize(("first", "count"), [("", 4), ("unregister_plugins()", 0)])
def test_entry_points_are_read_once_and_whole(run_script, tmp_path, first, count):
    package = tmp_path / "plugins-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: plugins\nVersion: 1.0\n")
    entries = "a = plugin_that_exits:X\nb = plugin_that_works:Works\n"
    (package / "entry_points.txt").write_text(f"[hypernodes.plugins]\n{entries}")
    (tmp_path / "plugin_that_exits.py").write_text("raise SystemExit(3)")
    (tmp_path / "plugin_that_works.py").write_text(WORKS)
    assert run_script(ENTRIES.replace("FIRST", first)).stdout.strip() == str(count)
