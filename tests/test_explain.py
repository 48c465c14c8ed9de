"""`explain` tells what a run would find, and what has changed where it would not."""

import logging

import pytest

from hypernodes import (
    CacheSpec,
    DiskCache,
    Explanation,
    MemoryCache,
    Pipeline,
    RuntimeConfig,
    UnknownInputError,
    node,
)

LOG = logging.getLogger("explained")


@pytest.fixture(params=["memory", "disk"])
def config(request, tmp_path):
    cache = MemoryCache() if request.param == "memory" else DiskCache(tmp_path / "cache")
    return RuntimeConfig(executor="sequential", cache=cache)


def clean(rows, strict=True):
    return [row for row in rows if row or not strict]


def count(clean):
    return len(clean)


def share(count, total):
    return count / total


PIPELINE = Pipeline([node(clean), node(count), node(share)], name="p")
INPUTS = {"rows": [1, 0], "total": 4}


def test_before_the_first_run_all_is_a_miss_of_which_nothing_is_known(config):
    found = PIPELINE.explain(INPUTS, config=config)
    assert isinstance(found, Explanation)
    assert dict(found) == dict.fromkeys(("clean", "count", "share"), ("miss", ()))


def test_after_a_run_all_is_a_hit(config):
    PIPELINE.run(INPUTS, config=config)
    found = PIPELINE.explain(INPUTS, config=config)
    assert {name: entry.status for name, entry in found.items()} == dict.fromkeys(found, "hit")


def test_a_changed_input_is_named_and_what_follows_names_the_node_before(config):
    PIPELINE.run(INPUTS, config=config)
    found = PIPELINE.explain(INPUTS | {"rows": [3]}, config=config)
    assert dict(found) == {
        "clean": ("miss", ("rows",)),
        "count": ("miss", ("clean",)),
        "share": ("miss", ("count",)),
    }
    found = PIPELINE.explain(INPUTS | {"total": 5}, config=config)
    assert [entry.status for entry in found.values()] == ["hit", "hit", "miss"]
    assert found["share"].changed == ("total",)


def test_changed_code_is_named(config):
    PIPELINE.run(INPUTS, config=config)

    def count(clean):
        return len(clean) + 1

    changed = PIPELINE.replace("count", count).explain(INPUTS, config=config)
    assert dict(changed) == {
        "clean": ("hit", ()),
        "count": ("miss", ("code",)),
        "share": ("miss", ("count",)),
    }


def test_the_nearest_entry_counts_and_not_the_last(config):
    PIPELINE.run(INPUTS, config=config)
    PIPELINE.run({"rows": [5, 6], "total": 7}, config=config)
    found = PIPELINE.explain(INPUTS | {"total": 9}, config=config)
    assert found["share"] == ("miss", ("total",))


def test_an_argument_that_comes_or_goes_is_named(config):
    PIPELINE.run(INPUTS, config=config)
    found = PIPELINE.explain(INPUTS | {"strict": False}, config=config)
    assert found["clean"] == ("miss", ("strict",))


def test_given_values_and_uncached_nodes_are_told_apart(config):
    pipeline = PIPELINE.replace("count", node(cache=False)(count))
    found = pipeline.explain({"clean": [1], "total": 2}, config=config)
    assert dict(found) == {
        "clean": ("given", ()),
        "count": ("uncached", ()),
        "share": ("miss", ("count",)),
    }


def test_what_has_no_identity_is_uncached_without_a_warning(config):
    pipeline = Pipeline([node("a")(lambda x, key: x), node("b")(lambda a: a)])
    found = pipeline.explain({"x": 1, "key": object()}, config=config)
    assert dict(found) == {"<lambda>[a]": ("uncached", ()), "b": ("miss", ("a",))} or {
        entry.status for entry in found.values()
    } == {"uncached", "miss"}


def test_without_a_cache_all_is_uncached():
    found = PIPELINE.explain(INPUTS, config=RuntimeConfig(executor="sequential"))
    assert set(found.values()) == {("uncached", ())}


def test_only_what_is_asked_for_is_explained(config):
    assert list(PIPELINE.explain(INPUTS, output_name="count", config=config)) == ["clean", "count"]
    with pytest.raises(UnknownInputError):
        PIPELINE.explain({"row": 1}, config=config)


def test_nodes_inside_are_called_by_their_path_and_twins_by_their_outputs(config):
    twins = [node(count), node(count).rename(outputs={"count": "again"})]
    inner = Pipeline([node(clean), *twins], name="inner")
    pipeline = Pipeline([inner, node(share)], name="p")
    found = pipeline.explain(INPUTS, config=config)
    assert set(found) == {"inner.clean", "inner.count[count]", "inner.count[again]", "share"}


def test_a_map_inside_is_one_entry(config):
    pipeline = Pipeline([PIPELINE.as_node(map_over="rows", name="each")], name="outer")
    inputs = {"rows": [[1], [0]], "total": 2}
    assert pipeline.explain(inputs, config=config)["each"] == ("miss", ())
    pipeline.run(inputs, config=config)
    assert pipeline.explain(inputs, config=config)["each"] == ("hit", ())
    found = pipeline.explain(inputs | {"total": 3}, config=config)
    assert found["each"] == ("miss", ("total",))


def test_another_salt_is_named(tmp_path):
    def spec(salt):
        return CacheSpec(kind="disk", path=str(tmp_path), options={"salt": salt})

    old, new = (RuntimeConfig(executor="sequential", cache=spec(salt)) for salt in ("1", "2"))
    PIPELINE.run(INPUTS, config=old)
    assert PIPELINE.explain(INPUTS, config=old)["clean"] == ("hit", ())
    assert PIPELINE.explain(INPUTS, config=new)["clean"] == ("miss", ("salt",))


def test_nothing_is_run_or_loaded(tmp_path, monkeypatch):
    cache = DiskCache(tmp_path / "cache")
    config = RuntimeConfig(executor="sequential", cache=cache)
    PIPELINE.run(INPUTS, config=config)
    monkeypatch.setattr(DiskCache, "get", None)
    monkeypatch.setattr(DiskCache, "get_many", None)
    assert PIPELINE.explain(INPUTS, config=config)["share"].status == "hit"


def test_what_counts_by_its_type_only_is_shown(config):
    def noisy(x):
        LOG.info("x = %s", x)
        return x

    found = Pipeline([node(noisy)]).explain({"x": 1}, config=config)
    assert found.by_type == {"noisy": ("LOG",)}
    assert "noisy counts by type only: LOG" in repr(found)


def test_it_prints_as_a_table(config):
    PIPELINE.run(INPUTS, config=config)
    found = PIPELINE.explain(INPUTS | {"total": 5}, config=config)
    assert str(found).splitlines() == [
        "node   status  changed",
        "clean  hit",
        "count  hit",
        "share  miss    total",
    ]


def statuses(pipeline, inputs, config):
    return {name: entry.status for name, entry in pipeline.explain(inputs, config=config).items()}


def double(x):
    return 2 * x


def total(doubles):
    return sum(doubles)


INNER = Pipeline([node("double")(double)], name="inner")
EACH = INNER.as_node(
    input_mapping={"xs": "x"}, map_over="xs", output_mapping={"double": "doubles"}, name="each"
)
OUTER = Pipeline([EACH, node("total")(total)], name="outer")
XS = {"xs": [1, 2, 3]}


def test_what_another_key_has_sealed_is_a_miss(tmp_path):
    PIPELINE.run(INPUTS, config=RuntimeConfig(cache=DiskCache(tmp_path)))
    config, key = RuntimeConfig(cache=DiskCache(tmp_path)), tmp_path / "key"
    key.unlink()
    assert set(statuses(PIPELINE, INPUTS, config).values()) == {"miss"}
    assert not key.exists()
    key.write_text("0" * 64)
    assert set(statuses(PIPELINE, INPUTS, config).values()) == {"miss"}


def test_what_is_damaged_is_a_miss(tmp_path):
    config = RuntimeConfig(cache=DiskCache(tmp_path))
    PIPELINE.run(INPUTS, config=config)
    for path in tmp_path.glob("[0-9a-f]/*"):
        path.write_bytes(path.read_bytes()[:-1])
    assert set(statuses(PIPELINE, INPUTS, config).values()) == {"miss"}


def test_a_map_whose_items_are_gone_is_a_miss(config):
    INNER.map({"x": [1]}, map_over="x", config=config)
    records = config.cache.records("inner > double")
    OUTER.run(XS, config=config)
    assert statuses(OUTER, XS, config) == {"each": "hit", "total": "hit"}
    config.cache.delete(records[0].signature)
    assert statuses(OUTER, XS, config) == {"each": "miss", "total": "hit"}


def test_a_map_all_of_whose_items_are_kept_is_a_hit(config):
    INNER.map({"x": [1, 2, 3]}, map_over="x", config=config)
    assert statuses(OUTER, XS, config) == {"each": "hit", "total": "miss"}
    assert statuses(OUTER, {"xs": [1, 2, 3, 4]}, config) == {"each": "miss", "total": "miss"}
