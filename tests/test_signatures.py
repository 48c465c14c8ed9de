"""Whole signatures: what counts, and that nothing changes them by accident."""

import pytest

from hypernodes import CacheSpec, CacheWarning, MemoryCache, Pipeline, RuntimeConfig, node
from hypernodes.cache._code import CodeSnapshot
from hypernodes.cache._parts import NoStableIdentityError
from hypernodes.cache._values import hash_value, value_key


class Recording(MemoryCache):
    def put(self, signature, value):
        super().put(signature, value)
        self.stored = [*getattr(self, "stored", []), signature]


def signatures(pipeline, inputs, **options):
    """Return the signatures under which a run stores, in the order of the nodes."""
    cache = Recording()
    config = RuntimeConfig(executor="sequential", cache=cache)
    pipeline.run(inputs, config=config, **options)
    return cache.stored


def test_code_that_cannot_be_read_runs_and_is_not_cached(monkeypatch):
    def describe(self, function):
        raise ZeroDivisionError("no way")

    monkeypatch.setattr(CodeSnapshot, "describe", describe)
    pipeline = Pipeline([node("y")(lambda x: x + 1)])
    config = RuntimeConfig(executor="sequential", cache=MemoryCache())
    for _ in range(2):
        with pytest.warns(CacheWarning, match="y: .*cannot be read: ZeroDivisionError: no way"):
            assert pipeline.run({"x": 1}, config=config) == {"y": 2}
    assert config.cache.stats().items == 0


def scale(values, factor=2):
    return [factor * value for value in values]


def bounds(scaled):
    return min(scaled), max(scaled)


def width(low, high):
    return high - low


def shift(x, offset):
    return x + offset


PIPELINE = Pipeline(
    [node("scaled")(scale), node(("low", "high"))(bounds), node(width)],
)


# Should these change, nothing that was stored before is found again: raise the version of the
# scheme (`cache._encoding.SCHEME`), say so in the changelog, and put the new ones here.
GOLDEN = (
    "f5d5247abcf6e7d343d8ae96503432cd954efbb7e1aa185da01a56a06140263f",
    "9832b605418bd974cb415599ec5bc1cff1ffa3fb99dc8f291feea57b0ab5c9aa",
    "87f0fee8c68a1262081013f301b7118bce2f49d4bc1db2c0b6adcd66c8d9d95e",
)
GOLDEN_MAP = (
    "0dd5515179f65777a3c1e8639331821fc539bc6349d71ea8f22e017bc8e39b1f",
    "ce26336b951117b9b3fe15e5cd86d2eb18205c37317dfb50870d36386eab11cc",
)


def test_signatures_are_what_they_were():
    assert tuple(signatures(PIPELINE, {"values": [3, 1, 2]})) == GOLDEN


def test_signatures_of_maps_inside_are_what_they_were():
    inner = Pipeline([node("y")(shift)])
    pipeline = Pipeline([inner.as_node(map_over="x")])
    assert tuple(signatures(pipeline, {"x": [1], "offset": 0.5})) == GOLDEN_MAP


def test_a_signature_is_lowercase_hex():
    for signature in signatures(PIPELINE, {"values": [1]}):
        assert len(signature) == 64
        assert int(signature, 16) >= 0
        assert signature == signature.lower()


def first(pipeline, **inputs):
    return signatures(pipeline, inputs)[0]


def test_names_in_the_graph_do_not_count():
    made = node("y")(scale)
    renamed = made.rename(inputs={"values": "rows"}, outputs={"y": "z"})
    assert first(Pipeline([made]), values=[1]) == first(Pipeline([renamed]), rows=[1])


def test_options_that_do_not_change_values_do_not_count():
    plain = first(Pipeline([node("y")(scale)]), values=[1])
    assert plain == first(Pipeline([node("y", retries=2, timeout=9.0)(scale)]), values=[1])
    assert plain == first(Pipeline([node("y")(scale)], name="named"), values=[1])


def test_which_parameter_an_argument_is_for_counts():
    def pick(a=1, b=1):
        return a, b

    pipeline = Pipeline([node("y")(pick)])
    assert len({first(pipeline), first(pipeline, a=2), first(pipeline, b=2)}) == 3


def test_how_outputs_are_unpacked_counts():
    pipelines = [Pipeline([node(name)(bounds)]) for name in ("y", ("y", "z"))]
    assert len({first(pipeline, scaled=[1]) for pipeline in pipelines}) == 2


def test_which_output_is_taken_counts():
    taken = [
        signatures(
            Pipeline([node(("p", "q"))(bounds), node("z")(lambda v: v).rename(inputs={"v": name})]),
            {"scaled": [1, 1]},
        )[1]
        for name in ("p", "q")
    ]
    assert taken[0] != taken[1]


def test_the_salt_counts():
    def stored(salt):
        spec = CacheSpec(kind="memory", options={"salt": salt, "max_items": 7})
        config = RuntimeConfig(executor="sequential", cache=spec)
        explained = PIPELINE.explain({"values": [1]}, config=config)
        PIPELINE.run({"values": [1]}, config=config)
        return explained["scale"].status

    assert [stored("one"), stored("one"), stored("two")] == ["miss", "hit", "miss"]


@pytest.mark.parametrize(
    "values",
    [
        (
            1,
            1.0,
            True,
            "1",
            b"1",
            None,
            (1,),
            [1],
            {1},
            frozenset({1}),
            {1: 1},
            1 + 0j,
            bytearray(b"1"),
        ),
        ("", b"", (), [], {}, 0, 0.0, -0.0, False),
        ("a,b", "a", ",b", ("a", "b"), "'a','b'"),
        (10**40, 10**40 + 1, -(10**40), 2.0**133),
        ("x" * 39, "x" * 40, "x" * 41, "x" * 1000, b"x" * 40),
    ],
)
def test_keys_of_different_values_differ(values):
    assert len({value_key(value) for value in values}) == len(values)


def test_short_values_are_their_own_keys_and_others_are_hashed():
    assert value_key(7) == "=" + b"i\x07".hex()
    assert value_key("x" * 100) == hash_value("x" * 100)
    assert value_key([7]) == hash_value([7])
    with pytest.raises(NoStableIdentityError):
        value_key(object())


def test_values_cannot_pass_for_what_a_node_makes():
    """A text that looks like a key is a text."""
    made, *_ = signatures(PIPELINE, {"values": [1]})
    inputs = {"scaled": made}
    assert signatures(Pipeline([node("y")(lambda scaled: scaled)]), inputs) != made
    assert value_key(made) != made
    assert value_key(f"{made}:0") != f"{made}:0"
