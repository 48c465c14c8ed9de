"""Handles of engines as values: references to objects of Ray's, futures of Dask's."""

import pickle

import pytest

from hypernodes import (
    CacheWarning,
    DaskExecutor,
    DiskCache,
    MemoryCache,
    Pipeline,
    ProcessPoolExecutor,
    RayExecutor,
    RemoteBackend,
    RuntimeConfig,
    SerializationError,
    node,
    stateful,
)
from hypernodes._engine.shipping.parcels import Hold, unpack
from hypernodes._handles import OBJECT_REF, may_be_in
from hypernodes._home import loads_at_home
from remote_dask import wait_until

ray = pytest.importorskip("ray")
distributed = pytest.importorskip("distributed")
numpy = pytest.importorskip("numpy")

BIG = 1 << 20
"""Numbers of eight bytes each."""


@pytest.fixture(scope="module")
def ray_executor():
    with RayExecutor(num_cpus=2) as executor:
        single(lambda x: x).run({"x": 1}, config=RuntimeConfig(executor=executor))
        yield executor


@pytest.fixture(scope="module")
def processes():
    with ProcessPoolExecutor(max_workers=1) as executor:
        yield executor


@pytest.fixture(scope="module")
def dask(remote):
    with DaskExecutor(scheduler_address=remote.address) as executor:
        yield executor


@pytest.fixture(scope="module")
def backend(ray_executor):
    with RemoteBackend(kind="ray", address=ray.get_runtime_context().gcs_address) as backend:
        yield backend


@pytest.fixture(params=["executor", "backend"])
def on_ray(request, ray_executor, backend):
    """Nodes on Ray, and whole pipelines."""
    if request.param == "executor":
        return RuntimeConfig(executor=ray_executor)
    return RuntimeConfig(backend=backend, executor="sequential")


@pytest.fixture(params=["processes", "dask"])
def elsewhere(request, ray_executor):
    """What is not Ray, while Ray is there."""
    return RuntimeConfig(executor=request.getfixturevalue(request.param))


def single(function, name="y", **options):
    return Pipeline([node(name, **options)(function)], name="single")


def got(x):
    return ray.get(x, timeout=20)


def got_deeply(x):
    return [got(ref) for ref in x["refs"]], got(x["more"][0])


def put(x):
    return ray.put(x)


def put_deeply(x):
    ref = ray.put(x)
    return {"refs": [ref, ref], "text": "of two"}


@ray.remote
def seven():
    return 7


# ---------------------------------------------------------------- on Ray


def test_a_run_takes_references(on_ray):
    pipeline = single(got)
    assert pipeline.run({"x": ray.put(5)}, config=on_ray) == {"y": 5}
    assert pipeline.run({"x": seven.remote()}, config=on_ray) == {"y": 7}


def test_references_may_be_anywhere_in_a_value(on_ray):
    value = {"refs": [ray.put(1), ray.put(2)], "more": (ray.put("three"),)}
    assert single(got_deeply).run({"x": value}, config=on_ray) == {"y": ([1, 2], "three")}


def test_items_are_references(on_ray):
    found = single(got).map({"x": [ray.put(n) for n in range(50)]}, map_over="x", config=on_ray)
    assert found == [{"y": n} for n in range(50)]


def test_items_share_references(on_ray):
    pipeline = single(lambda x, shared: x + sum(map(got, shared)))
    inputs = {"x": range(20), "shared": [ray.put(10), ray.put(20)]}
    found = pipeline.map(inputs, map_over="x", config=on_ray)
    assert found == [{"y": n + 30} for n in range(20)]


def test_functions_and_bound_inputs_have_references(on_ray):
    ref = ray.put(5)
    pipeline = single(lambda x, z: got(ref) + got(z) + x).bind(z=ray.put(10))
    assert pipeline.run({"x": 1}, config=on_ray) == {"y": 16}


def test_nodes_return_references(on_ray):
    assert got(single(put).run({"x": 5}, config=on_ray)["y"]) == 5
    found = single(put).map({"x": range(20)}, map_over="x", config=on_ray)
    assert [got(each["y"]) for each in found] == list(range(20))


def test_nodes_return_references_inside_of_values(on_ray):
    found = single(put_deeply).run({"x": 5}, config=on_ray)["y"]
    first, second = found["refs"]
    assert first is second
    assert got(first) == 5


def test_what_is_returned_may_be_what_was_given(on_ray):
    ref = ray.put(5)
    assert single(lambda x: x).run({"x": ref}, config=on_ray) == {"y": ref}


@pytest.mark.parametrize("size", [10, BIG])
def test_references_go_from_node_to_node(on_ray, size):
    def made(x):
        return {"ref": ray.put(x + numpy.ones(size)), "besides": numpy.ones(size)}

    def summed(made):
        return float(ray.get(made["ref"]).sum() + made["besides"].sum())

    pipeline = Pipeline([node("made")(made), node("y")(summed)])
    assert pipeline.run({"x": 1}, output_name="y", config=on_ray) == {"y": 3.0 * size}


def test_a_value_lives_as_long_as_somebody_leads_to_it(on_ray):
    counts = ray._private.worker.global_worker.core_worker.get_all_reference_counts
    names = set()

    def made(n):
        ref = ray.put(numpy.full(BIG, n))
        names.add(ref.hex())
        return {"ref": ref}

    pipeline = single(lambda x: float(ray.get(x["ref"]).sum()))
    assert pipeline.run({"x": made(1)}, config=on_ray) == {"y": BIG}
    inputs = {"x": (made(n) for n in range(3))}
    found = pipeline.map_iter(inputs, map_over="x", config=on_ray)
    assert list(found) == [{"y": float(n * BIG)} for n in range(3)]
    del found, inputs
    assert len(names) == 4
    wait_until(lambda: not names & counts().keys())


def test_actors_travel(on_ray):
    @ray.remote
    class Counter:
        def __init__(self):
            self.count = 0

        def add(self, number):
            self.count += number
            return self.count

    counter = Counter.remote()
    pipeline = single(lambda x, counter: ray.get(counter.add.remote(x)))
    pipeline.map({"x": range(10), "counter": counter}, map_over="x", config=on_ray)
    assert got(counter.add.remote(0)) == 45


def test_futures_of_dask_mean_nothing_there(on_ray, dask):
    with distributed.Client(dask.scheduler_address) as client:
        future = client.submit(int, 5)
        with pytest.raises(SerializationError, match=r"node 'y': the input 'x'.*its result"):
            single(lambda x: x.result()).run({"x": future}, config=on_ray)


# ---------------------------------------------------------------- elsewhere


def test_elsewhere_an_input_that_is_a_reference_is_refused(elsewhere):
    with pytest.raises(SerializationError, match=r"node 'got': the input 'x'.*its value") as caught:
        single(got).run({"x": [ray.put(5)]}, config=elsewhere)
    assert (caught.value.node, caught.value.name) == ("got", "x")


def test_elsewhere_an_item_that_is_a_reference_fails(elsewhere):
    inputs = {"x": [1, ray.put(2), 3]}
    outcomes = single(lambda x: x).map(inputs, map_over="x", config=elsewhere, on_error="return")
    assert [outcomes[0], outcomes[2]] == [{"y": 1}, {"y": 3}]
    error = outcomes[1].error
    assert isinstance(error, SerializationError)
    assert (error.node, error.name, error.index) == ("y", "x", 1)


def test_elsewhere_a_function_that_uses_a_reference_is_refused(elsewhere):
    ref = ray.put(5)
    with pytest.raises(SerializationError, match="node 'y': 'ref', which its function uses"):
        single(lambda x: ray.get(ref)).run({"x": 1}, config=elsewhere)


def test_futures_of_dask_are_refused(elsewhere, dask):
    with distributed.Client(dask.scheduler_address) as client:
        future = client.submit(int, 5)
        with pytest.raises(SerializationError, match=r"node 'y': the input 'x'.*its result"):
            single(lambda x: x[0].result()).run({"x": [future]}, config=elsewhere)


def test_nodes_on_dask_cannot_return_futures(dask):
    def made(x):
        return distributed.get_client().submit(int, x)

    with pytest.raises(SerializationError, match=r"node 'made': its output 'y'.*its result"):
        single(made).run({"x": 1}, config=RuntimeConfig(executor=dask))


def test_collections_whose_parts_dask_has_may_be_inputs_there(dask):
    bag = pytest.importorskip("dask.bag")
    with distributed.Client(dask.scheduler_address):
        numbers = bag.from_sequence(range(10)).persist()
        pipeline = single(lambda x: x.sum().compute())
        assert pipeline.run({"x": numbers}, config=RuntimeConfig(executor=dask)) == {"y": 45}


# ---------------------------------------------------------------- in caches


def test_a_reference_is_nothing_that_a_cache_could_know_again(ray_executor, tmp_path):
    config = RuntimeConfig(executor=ray_executor, cache=DiskCache(tmp_path))
    pipeline = single(got)
    with pytest.warns(CacheWarning, match="ObjectRef.*no identity"):
        assert pipeline.run({"x": ray.put(5)}, config=config) == {"y": 5}
    with pytest.warns(CacheWarning, match="ObjectRef.*no identity"):
        assert pipeline.run({"x": ray.put(6)}, config=config) == {"y": 6}


@pytest.mark.parametrize("kind", [DiskCache, MemoryCache])
def test_no_cache_keeps_references(ray_executor, tmp_path, kind):
    cache = kind(tmp_path) if kind is DiskCache else kind()
    config = RuntimeConfig(executor=ray_executor, cache=cache)
    for _ in range(2):
        with pytest.warns(CacheWarning, match="give its value"):
            assert got(single(put).run({"x": 5}, config=config)["y"]) == 5


def test_a_future_is_known_by_what_it_computes_and_not_by_what_a_user_calls_it(dask, sequential):
    config = sequential.replace(cache=MemoryCache())
    pipeline = single(lambda x: x.result())
    with distributed.Client(dask.scheduler_address) as client:
        pipeline.run({"x": client.submit(int, 5)}, config=config)
        assert config.cache.stats().items == 1
        with pytest.warns(CacheWarning, match="Future.*no identity"):
            pipeline.run({"x": client.submit(int, 6, key="mine")}, config=config)


# ---------------------------------------------------------------- parcels


def test_handles_travel_beside_the_pickle_and_big_buffers_too(ray_executor):
    ref, big = ray.put(5), numpy.ones(BIG)
    parcel = Hold(OBJECT_REF).pack([ref, big, {"again": ref}])
    assert parcel.handles == (ref,)
    assert len(parcel.buffers) == 1
    for loads in ({}, {"loads": loads_at_home}):
        first, array, again = unpack(parcel, keep=True, **loads)
        assert first is again["again"] is ref
        assert array.sum() == BIG


def test_words_that_look_like_handles_are_none(ray_executor):
    for packer in (Hold(), Hold(OBJECT_REF)):
        parcel = packer.pack(["an ObjectRef of distributed.client"])
        assert not parcel.handles
        assert unpack(parcel) == ["an ObjectRef of distributed.client"]


def test_where_no_engine_is_there_are_no_handles(run_script):
    run_script(
        "import pickle, sys\n"
        "from hypernodes._handles import may_be_in\n"
        "assert not may_be_in(pickle.dumps('ObjectRef'))\n"
        "assert 'ray' not in sys.modules\n"
    )
    assert may_be_in(pickle.dumps("ObjectRef"))


def test_what_a_stateful_instance_is_made_of_may_be_no_handle(on_ray):
    @stateful
    class Model:
        def __init__(self, ref):
            self.value = got(ref)

    pipeline = single(lambda x, model: x + model.value, stateful_params=("model",))
    with pytest.raises(SerializationError, match=r"argument 'ref' of .*give its value"):
        pipeline.run({"x": 1, "model": Model(ray.put(5))}, config=on_ray)


def test_an_error_that_has_a_reference_comes_back_without_it(on_ray):
    class OddError(Exception):
        pass

    def fail(x):
        raise OddError("odd", ray.put(x))

    with pytest.raises(OddError, match="ObjectRef") as caught:
        single(fail).run({"x": 1}, config=on_ray)
    assert not any(isinstance(part, ray.ObjectRef) for part in caught.value.args)
