"""Which cache is used where: configs of calls, nodes and pipelines, other executors, files."""

import gc
import pickle
import threading

import pytest
from pydantic import ValidationError

from caching import LoggingCache, Tally
from hypernodes import (
    Cache,
    CacheSpec,
    DiskCache,
    MemoryCache,
    Pipeline,
    ProcessPoolExecutor,
    RuntimeConfig,
    ThreadPoolExecutor,
    node,
    set_default_config,
)
from hypernodes._engine.caching.engine import CachingEngine
from hypernodes.cache.spec import shared_cache

THREADS = ThreadPoolExecutor(max_workers=2)
PROCESSES = ProcessPoolExecutor(max_workers=2)


@pytest.fixture(scope="module", autouse=True)
def pools():
    yield
    THREADS.close()
    PROCESSES.close()


@pytest.fixture
def tally(tmp_path):
    return Tally(tmp_path / "calls")


def two_steps(tally, **second):
    def first(x):
        tally.add("first")
        return [x]

    def then(first):
        tally.add("then")
        return [*first, 0]

    return node(first), node(**second)(then)


# ---------------------------------------------------------------- the field


def test_all_forms_of_a_cache_are_taken():
    def make():
        return MemoryCache()

    cache = MemoryCache()
    assert RuntimeConfig(cache=cache).cache is cache
    assert RuntimeConfig(cache=make).cache is make
    assert RuntimeConfig(cache=MemoryCache).cache is MemoryCache
    assert RuntimeConfig(cache="memory").cache == CacheSpec(kind="memory")
    table = {"kind": "disk", "path": "somewhere", "options": {"salt": "1"}}
    assert RuntimeConfig(cache=table).cache == CacheSpec(**table)
    assert RuntimeConfig(cache=CacheSpec(**table)).cache.salt == "1"
    assert RuntimeConfig().cache is None


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (3, "is no cache"),
        ("disk", "needs a path"),
        ("dsik", "did you mean"),
        ({"path": "x"}, "is no cache"),
        ({"kind": "disk", "path": "x", "option": {}}, "option"),
    ],
)
def test_what_is_no_cache_is_refused(value, words):
    with pytest.raises(ValidationError, match=words):
        RuntimeConfig(cache=value)


def test_configs_compare_specs_by_value_and_live_caches_by_identity():
    cache = MemoryCache()
    assert RuntimeConfig(cache="memory") == RuntimeConfig(cache=CacheSpec(kind="memory"))
    assert RuntimeConfig(cache=cache) == RuntimeConfig(cache=cache)
    assert RuntimeConfig(cache=cache) != RuntimeConfig(cache=MemoryCache())
    assert len({RuntimeConfig(cache=cache), RuntimeConfig(cache=cache)}) == 1

    class Odd(MemoryCache):
        __hash__ = None

        def __eq__(self, other):
            return True

    assert RuntimeConfig(cache=Odd()) != RuntimeConfig(cache=Odd())
    assert hash(RuntimeConfig(cache=Odd()))


def test_a_described_cache_survives_a_file_and_a_pickle(tmp_path):
    path = tmp_path / "hypernodes.toml"
    path.write_text('[cache]\nkind = "disk"\npath = "kept"\n[cache.options]\nttl = 5.0\n')
    config = RuntimeConfig.from_file(path)
    assert config.cache == CacheSpec(kind="disk", path="kept", options={"ttl": 5.0})
    assert RuntimeConfig(**config.model_dump(mode="json")) == config
    assert pickle.loads(pickle.dumps(config)) == config
    with pytest.raises(ValueError, match="CacheSpec"):
        RuntimeConfig(cache=MemoryCache()).model_dump_json()


def test_nothing_is_opened_before_it_is_used(tmp_path):
    made = []

    def make():
        made.append(MemoryCache())
        return made[-1]

    config = RuntimeConfig(executor="sequential", cache=make)
    pipeline = Pipeline([node("y")(lambda x: x)], config=config)
    assert made == []
    for x in (1, 1, 2):
        pipeline.run({"x": x})
    Pipeline([node("y")(lambda x: x)]).run({"x": 1}, config=RuntimeConfig(cache=make))
    assert len(made) == 1
    disk = RuntimeConfig(executor="sequential", cache=CacheSpec(kind="disk", path=tmp_path / "c"))
    changed = pipeline.with_config(disk)
    assert not (tmp_path / "c").exists()
    changed.run({"x": 1})
    assert (tmp_path / "c").exists()


def test_equal_specs_share_one_cache(tally):
    options = {"salt": "of this test"}
    first, then = two_steps(tally)
    for _ in range(2):
        spec = CacheSpec(kind="memory", options=options)
        config = RuntimeConfig(executor="sequential", cache=spec)
        Pipeline([first, then]).run({"x": 1}, config=config)
    assert tally.take() == ["first", "then"]


def test_another_salt_finds_nothing(tally, tmp_path):
    first, then = two_steps(tally)
    for salt in ("a", "b", "a"):
        spec = CacheSpec(kind="disk", path=tmp_path / "c", options={"salt": salt})
        config = RuntimeConfig(executor="sequential", cache=spec)
        assert Pipeline([first, then]).run({"x": 1}, config=config)["then"] == [1, 0]
    assert tally.take() == ["first"] * 2 + ["then"] * 2


def test_without_a_cache_the_plain_kernel_runs():
    pipeline = Pipeline([Pipeline([node("y")(lambda x: x)]).as_node(map_over="x")])
    plain, cached = RuntimeConfig(), RuntimeConfig(cache="memory")
    names = ["x"]
    assert not isinstance(pipeline.engine(names, pipeline._context(plain)), CachingEngine)
    assert isinstance(pipeline.engine(names, pipeline._context(cached)), CachingEngine)
    off = Pipeline([pipeline.as_node(cache=False)])
    assert not isinstance(off.engine(names, off._context(cached)), CachingEngine)


# ---------------------------------------------------------------- precedence


def test_a_nodes_own_config_brings_its_cache(tally):
    own, outer = LoggingCache(), LoggingCache()
    mine = RuntimeConfig(executor="sequential", cache=own)
    first, then = two_steps(tally, config=mine)
    pipeline = Pipeline([first, then])
    config = RuntimeConfig(executor="sequential", cache=outer)
    with RuntimeConfig.use(config):
        for _ in range(2):
            assert pipeline.run({"x": 1})["then"] == [1, 0]
    assert tally.take() == ["first", "then"]
    assert (len(own.stored), len(outer.stored)) == (1, 1)
    pipeline.run({"x": 1}, config=config)  # a config of the call rules all
    assert tally.take() == ["then"]


def test_a_nodes_own_config_without_a_cache_is_not_cached(tally):
    first, then = two_steps(tally, config=RuntimeConfig(executor="sequential"))
    set_default_config(RuntimeConfig(executor="sequential", cache=MemoryCache()))
    for _ in range(2):
        Pipeline([first, then]).run({"x": 1})
    assert tally.take() == ["first", "then", "then"]


@pytest.mark.parametrize("executor", [THREADS, PROCESSES])
def test_a_node_that_runs_elsewhere_is_looked_up_here(tally, executor):
    cache = LoggingCache()
    first, then = two_steps(tally, config=RuntimeConfig(executor=executor, cache=cache))
    pipeline = Pipeline([first, then])
    with RuntimeConfig.use(RuntimeConfig(executor="sequential", cache=cache)):
        for _ in range(2):
            assert pipeline.run({"x": 1}) == {"first": [1], "then": [1, 0]}
        assert tally.take() == ["first", "then"]
        assert len(cache.stored) == 2
        found = pipeline.map({"x": [1, 2, 2]}, map_over="x", output_name="then")
        assert [item["then"] for item in found] == [[1, 0], [2, 0], [2, 0]]
    assert set(tally.take()) == {"first", "then"}


@pytest.mark.parametrize("mapped", [None, "x"])
@pytest.mark.parametrize("executor", [THREADS, PROCESSES])
def test_a_pipeline_that_runs_elsewhere_is_cached_there(tally, executor, mapped, tmp_path):
    cache = DiskCache(tmp_path / "c")
    there = RuntimeConfig(executor=executor, cache=cache)
    inner = Pipeline(two_steps(tally), config=there, name="inner")
    end = node("end")(lambda then: len(then))  # noqa: PLW0108
    pipeline = Pipeline([inner.as_node(map_over=mapped), end])
    given = {"x": [1, 2] if mapped else 1}
    with RuntimeConfig.use(RuntimeConfig(executor="sequential", cache=MemoryCache())):
        for _ in range(2):
            assert pipeline.run(given, output_name="end") == {"end": 2}
    assert tally.take() == sorted(["first", "then"] * (2 if mapped else 1))


def test_a_map_inside_uses_the_cache_of_its_own_pipeline(tally):
    cache = LoggingCache()
    config = RuntimeConfig(executor=THREADS, cache=cache)
    inner = Pipeline(two_steps(tally), config=config)
    pipeline = Pipeline([inner.as_node(map_over="x")])
    with RuntimeConfig.use(RuntimeConfig(executor=THREADS)):
        for _ in range(2):
            assert pipeline.run({"x": [1, 2]})["then"] == [[1, 0], [2, 0]]
    assert tally.take() == ["first", "first", "then", "then"]


# ---------------------------------------------------------------- other processes


class Plain(Cache):
    """A cache of somebody's own that cannot leave this process."""

    def __init__(self):
        self.lock = threading.Lock()
        self.content = {}

    def get(self, signature):
        with self.lock:
            return self.content.get(signature, _MISS)

    def put(self, signature, value):
        with self.lock:
            self.content[signature] = value

    def delete(self, signature):
        self.content.pop(signature, None)

    def clear(self):
        self.content.clear()

    def stats(self):
        raise NotImplementedError  # runs never ask for it: one that did would fail here


from hypernodes import MISS as _MISS  # noqa: E402


def test_a_live_cache_is_used_by_the_driver_of_processes(tally):
    config = RuntimeConfig(executor=PROCESSES, cache=Plain())
    pipeline = Pipeline(two_steps(tally))
    with RuntimeConfig.use(config):
        assert pipeline.run({"x": 1})["then"] == [1, 0]
        assert len(config.cache.content) == 2
        pipeline.map({"x": [1, 2, 3]}, map_over="x")
        pipeline.map({"x": [1, 2, 3]}, map_over="x")
    assert tally.take() == ["first"] * 3 + ["then"] * 3
    assert len(config.cache.content) == 6


def test_equal_items_travel_once(tally, tmp_path):
    pipeline = Pipeline(two_steps(tally))
    for cache in (MemoryCache(), DiskCache(tmp_path / "c")):
        config = RuntimeConfig(executor=PROCESSES, cache=cache)
        found = pipeline.map({"x": [1, 2] * 5}, map_over="x", config=config)
        assert [item["then"] for item in found] == [[1, 0], [2, 0]] * 5
        assert tally.take() == ["first"] * 2 + ["then"] * 2


def test_what_another_process_has_stored_is_found_here(tally, tmp_path):
    cache = DiskCache(tmp_path / "c")
    pipeline = Pipeline(two_steps(tally))
    pipeline.map({"x": [1, 2]}, map_over="x", config=RuntimeConfig(executor=PROCESSES, cache=cache))
    tally.take()
    found = pipeline.run({"x": 2}, config=RuntimeConfig(executor="sequential", cache=cache))
    assert found["then"] == [2, 0]
    assert tally.take() == []


def test_code_counts_as_it_is_in_the_driver(tally, tmp_path, run_script):
    """Functions of a script travel without their source."""
    script = f"""
from hypernodes import DiskCache, Pipeline, ProcessPoolExecutor, RuntimeConfig, node

@node
def double(x):
    # A comment, which bytecode does not have.
    with open({str(tmp_path / "calls")!r}, "a") as file:
        file.write("double\\n")
    return 2 * x

cache = DiskCache({str(tmp_path / "c")!r})
pipeline = Pipeline([double])
for executor in (ProcessPoolExecutor(max_workers=1), "sequential"):
    config = RuntimeConfig(executor=executor, cache=cache)
    print(pipeline.map({{"x": [1, 2]}}, map_over="x", config=config))
"""
    result = run_script(script)
    assert result.stdout.splitlines() == ["[{'double': 2}, {'double': 4}]"] * 2
    assert tally.take() == ["double", "double"]


def test_what_was_broken_off_in_another_process_is_not_stored(tally):
    """A worker gives None for what it did not finish; by then nobody waits for it."""
    config = RuntimeConfig(executor="sequential", cache=MemoryCache())
    pipeline = Pipeline(two_steps(tally)[:1])
    engine = pipeline.engine(["x"], pipeline._context(config))
    for is_closed, kept in ((True, 0), (False, 1)):
        frame = engine.frame({"x": 1}, {}, None, lambda _: None)
        (lookups,) = frame.first()
        found = engine.attempt_segment(lookups.index, frame.arguments(lookups))
        (segment,) = frame.settle(lookups, found)
        taken = frame.arguments(segment)
        then = frame.kept_here(segment, taken, lambda _: None)
        if is_closed:
            frame.close()
        then(dict.fromkeys(segment.gives))
        assert config.cache.stats().items == kept


def test_engines_of_caches_that_are_gone_go_with_their_pipelines(tally):
    pipeline = Pipeline(two_steps(tally))
    pipeline.run({"x": 1}, config=RuntimeConfig(executor="sequential", cache=MemoryCache()))
    del pipeline
    gc.collect()
    assert shared_cache(MemoryCache) is shared_cache(MemoryCache)
