"""`CacheSpec`: data that describes a cache; one cache for all that describe it alike."""

import json
import pickle
import threading
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from pydantic import ValidationError

from hypernodes import Cache, CacheError, CacheSpec, DiskCache, MemoryCache
from hypernodes.cache import spec as room
from hypernodes.cache.spec import shared_cache


class Shelf(MemoryCache):
    """A third party's cache."""

    def __init__(self, path=None, **options):
        super().__init__()
        self.given = path, options


def no_cache(**_):
    return "no cache"


@pytest.fixture
def third_party(monkeypatch):
    points = [
        EntryPoint("shelf", f"{__name__}:Shelf", room.ENTRY_POINTS),
        EntryPoint("wrong", f"{__name__}:no_cache", room.ENTRY_POINTS),
        EntryPoint("gone", "hypernodes_nowhere:Cache", room.ENTRY_POINTS),
    ]
    monkeypatch.setattr(room, "entry_points", lambda group: points if group else [])


SPECS = [
    CacheSpec(kind="memory"),
    CacheSpec(kind="memory", options={"max_items": 3, "max_bytes": 10, "salt": "a"}),
    CacheSpec(kind="disk", path="somewhere", options={"ttl": 5, "key": "secret"}),
    CacheSpec(kind="fsspec", path="memory://x", options={"storage_options": {"a": [1, {"b": 2}]}}),
]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.kind)
def test_a_spec_is_data(spec):
    copies = [
        pickle.loads(pickle.dumps(spec)),
        CacheSpec(**spec.model_dump()),
        CacheSpec(**spec.model_dump(mode="json")),
        CacheSpec(**json.loads(spec.model_dump_json())),
    ]
    for copy in copies:
        assert copy == spec
        assert hash(copy) == hash(spec)
    assert len(set(SPECS)) == len(SPECS)


def test_a_spec_makes_its_cache(tmp_path):
    memory = CacheSpec(kind="memory", options={"max_items": 3, "salt": "x"}).create()
    assert (type(memory), memory.max_items) == (MemoryCache, 3)
    path = tmp_path / "cache"
    disk = CacheSpec(kind="disk", path=path, options={"max_bytes": 10_000, "ttl": 5}).create()
    assert (type(disk), disk.path, disk.max_bytes, disk.ttl) == (DiskCache, str(path), 10_000, 5)
    assert not path.exists()


def test_a_spec_cannot_be_changed():
    spec = CacheSpec(kind="memory", options={"max_items": 3})
    with pytest.raises(ValidationError):
        spec.kind = "disk"
    with pytest.raises(TypeError):
        spec.options["max_items"] = 4
    given = {"storage_options": {"a": [1]}}
    spec = CacheSpec(kind="fsspec", path="memory://x", options=given)
    given["storage_options"]["a"].append(2)
    assert spec.options["storage_options"]["a"] == (1,)


def test_options_are_a_mapping():
    options = CacheSpec(kind="memory", options={"max_items": 3, "salt": "a"}).options
    assert dict(options) == options == {"salt": "a", "max_items": 3}
    assert len(options) == 2
    assert "salt" in options


def test_the_salt_is_for_signatures():
    assert CacheSpec(kind="memory").salt == ""
    assert CacheSpec(kind="memory", options={"salt": "2026"}).salt == "2026"
    assert CacheSpec(kind="memory") != CacheSpec(kind="memory", options={"salt": "2026"})


def test_the_key_does_not_show():
    spec = CacheSpec(kind="disk", path="x", options={"key": "secret"})
    assert "secret" not in f"{spec} {spec!r}"
    assert "'x'" in repr(spec)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "memroy"}, "did you mean 'memory'"),
        ({"kind": ""}, "at least 1"),
        ({}, "Field required"),
        ({"kind": "memory", "path": "x"}, "has no path"),
        ({"kind": "disk"}, "needs a path"),
        ({"kind": "fsspec"}, "needs a path"),
        ({"kind": "disk", "path": 5}, "valid string"),
        ({"kind": "disk", "path": "x", "options": {"max_byte": 5}}, "did you mean 'max_bytes'"),
        ({"kind": "memory", "options": {"ttl": 5}}, "no option 'ttl'"),
        ({"kind": "memory", "options": 5}, "instance of Options"),
        ({"kind": "memory", "size": 5}, "no 'size'"),
    ],
)
def test_what_describes_no_cache_is_refused(fields, message):
    with pytest.raises(ValidationError, match=message):
        CacheSpec(**fields)


def test_a_wrong_option_is_an_error_when_the_cache_is_made():
    with pytest.raises(CacheError, match="max_items"):
        CacheSpec(kind="memory", options={"max_items": -1}).create()


@pytest.mark.usefixtures("third_party")
def test_a_third_party_makes_its_own_kind():
    plain = CacheSpec(kind="shelf").create()
    full = CacheSpec(kind="shelf", path="x", options={"a": {"b": [1]}, "salt": "s"}).create()
    assert (type(plain), plain.given) == (Shelf, (None, {}))
    assert full.given == ("x", {"a": {"b": [1]}})


@pytest.mark.usefixtures("third_party")
def test_a_third_partys_mistakes_are_cache_errors():
    with pytest.raises(CacheError, match="no Cache"):
        CacheSpec(kind="wrong").create()
    with pytest.raises(CacheError, match="cannot be loaded"):
        CacheSpec(kind="gone").create()


@pytest.mark.usefixtures("third_party")
def test_a_kind_that_is_not_installed_here_is_a_cache_error(monkeypatch):
    spec = CacheSpec(kind="shelf")
    monkeypatch.setattr(room, "entry_points", lambda group: [] if group else None)
    with pytest.raises(CacheError, match="unknown cache 'shelf'"):
        spec.create()


def test_installed_entry_points_are_found(run_script, tmp_path):
    (tmp_path / "shelf.py").write_text(
        "from hypernodes import MemoryCache\nclass Shelf(MemoryCache): pass\n"
    )
    facts = tmp_path / "shelf-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: shelf\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[hypernodes.caches]\nshelf = shelf:Shelf\n")
    run_script(
        "from hypernodes import CacheSpec\n"
        "made = CacheSpec(kind='shelf', options={'max_items': 2}).create()\n"
        "assert (type(made).__name__, made.max_items) == ('Shelf', 2)"
    )


def test_equal_specs_share_one_cache(tmp_path):
    first = shared_cache(CacheSpec(kind="disk", path=tmp_path / "a"))
    assert shared_cache(CacheSpec(kind="disk", path=str(tmp_path / "a"))) is first
    assert shared_cache(CacheSpec(kind="disk", path=tmp_path / "b")) is not first
    assert CacheSpec(kind="memory").create() is not CacheSpec(kind="memory").create()


def test_a_cache_is_itself():
    cache = MemoryCache()
    assert shared_cache(cache) is cache


def test_factories_go_by_identity_and_are_called_once():
    made = []

    class Factory:
        def __call__(self):
            made.append(MemoryCache())
            return made[-1]

        def __eq__(self, other):
            return True

        __hash__ = None

    one, other = Factory(), Factory()
    barrier = threading.Barrier(4)
    found = []

    def ask():
        barrier.wait()
        found.append(shared_cache(one))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert all(cache is made[0] for cache in found)
    assert shared_cache(other) is not made[0]


def test_a_factory_may_use_another_cache():
    inner = CacheSpec(kind="memory", options={"max_items": 77})
    assert shared_cache(lambda: shared_cache(inner)) is shared_cache(inner)


def test_a_factory_that_makes_no_cache_is_an_error():
    with pytest.raises(CacheError, match="no Cache"):
        shared_cache(lambda: None)
    with pytest.raises(CacheError, match="does not take"):
        shared_cache(lambda path: path)


def test_a_factorys_own_error_surfaces():
    def fail():
        raise ConnectionError("nobody there")

    with pytest.raises(ConnectionError):
        shared_cache(fail)


def test_an_abstract_cache_cannot_be_made():
    with pytest.raises(TypeError, match="abstract"):
        Cache()


def test_paths_may_be_path_objects():
    assert CacheSpec(kind="disk", path=Path("a")).path == "a"


def test_a_relative_path_counts_from_where_the_spec_was_made(tmp_path, monkeypatch):
    rooms = [tmp_path / "one", tmp_path / "two"]
    specs = []
    for directory in rooms:
        directory.mkdir()
        monkeypatch.chdir(directory)
        specs.append(CacheSpec(kind="disk", path="cache"))
        assert specs[-1] == CacheSpec(kind="disk", path="cache")
    assert specs[0] != specs[1]
    for spec, directory in zip(specs, rooms, strict=True):
        for each in (spec, pickle.loads(pickle.dumps(spec)), spec.model_copy()):
            assert shared_cache(each).path == str(directory / "cache")
            assert each == spec
        assert spec.path == "cache"


@pytest.mark.parametrize("salt", [None, 1, [1], b"1"])
def test_a_salt_is_a_text(salt):
    with pytest.raises(ValidationError, match="salt of a cache has to be a text"):
        CacheSpec(kind="memory", options={"salt": salt})
