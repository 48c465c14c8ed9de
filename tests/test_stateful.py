"""Values that are described by what makes them, and built where they are used."""

import abc
import asyncio
import copy
import enum
import gc
import inspect
import pickle
import re
import threading
import weakref
from concurrent import futures
from dataclasses import dataclass, field
from functools import cached_property
from typing import Generic, NamedTuple, TypeVar

import cloudpickle
import pydantic
import pytest

from hypernodes import (
    InputError,
    MemoryCache,
    Pipeline,
    ProcessPoolExecutor,
    RemoteBackend,
    RuntimeConfig,
    SerializationError,
    node,
    stateful,
)
from hypernodes._stateful.descriptions import _entries
from hypernodes._stateful.sharing import _MOST_KEPT, HOME, _kept
from hypernodes.cache._code import hash_code
from hypernodes.cache._values import NoStableIdentityError, hash_value
from hypernodes.telemetry import RunReport
from hypernodes.testing._work import Marks
from hypernodes.testing._work import Model as Marking


class Log(list):
    """What is noted does not count as the code of those who note it."""

    def __cache_key__(self):
        return "log"


BUILT = Log()
T = TypeVar("T")


@pytest.fixture(autouse=True)
def _nothing_built():
    BUILT.clear()
    yield
    gc.collect()
    _kept.clear()


@stateful
class Model:
    """One that notes when it is built."""

    kind = "model"

    def __init__(self, path, *, size=3):
        BUILT.append(path)
        self.path = path
        self.size = size
        self.lock = threading.Lock()

    def __call__(self, x):
        return self.size * x

    def __len__(self):
        return 7

    def __iter__(self):
        return iter("ab")

    def __contains__(self, item):
        return item == self.path

    def __enter__(self):
        return "entered"

    def __exit__(self, *_):
        pass

    def __add__(self, other):
        return "sum"

    def __getitem__(self, key):
        return key

    def hello(self):
        return f"hello {self.path}"

    @staticmethod
    def of_class():
        return 1


class MineError(Exception):
    pass


@stateful
class Plain:
    def __init__(self, value=None):
        BUILT.append(value)
        if isinstance(value, BaseException):
            raise value
        self.value = value


# ---------------------------------------------------------------- before and after


def test_a_new_instance_is_not_built():
    model = Model("p")
    assert isinstance(model, Model)
    assert model.__class__ is Model
    assert callable(model)
    assert {model: 1}[model] == 1
    assert model == model  # noqa: PLR0124
    assert model != Model("p")
    assert model.__daft_stateful__ is True
    assert (model.__doc__, model.__module__) == (Model.__doc__, __name__)
    assert inspect.signature(model) == inspect.signature(lambda x: 0)
    assert BUILT == []


@pytest.mark.parametrize(
    ("use", "gives"),
    [
        (lambda m: m.path, "p"),
        (lambda m: m.kind, "model"),
        (lambda m: m.hello(), "hello p"),
        (lambda m: m.of_class(), 1),
        (lambda m: m(2), 6),
        (len, 7),
        (list, ["a", "b"]),
        (lambda m: "p" in m, True),
        (lambda m: m.__enter__(), "entered"),
        (lambda m: m + 1, "sum"),
        (lambda m: m[5], 5),
        (lambda m: setattr(m, "size", 9), None),
        (lambda m: m.__dict__["size"], 3),
        (lambda m: vars(m)["size"], 3),
        (lambda m: getattr(m, "absent", 0), 0),
        (lambda m: "size" in dir(m), True),
    ],
)
def test_its_first_use_builds_it_once(use, gives):
    model = Model("p")
    assert use(model) == gives
    assert use(model) == gives
    assert BUILT == ["p"]
    assert type(model) is Model


def test_what_is_set_and_deleted_at_first_stays_so():
    model, other = Model("p"), Model("q")
    model.size = 5
    del other.size
    assert model(2) == 10
    assert not hasattr(other, "size")


def test_a_coroutine_method_that_is_called_builds_it():
    @stateful
    class Later:
        def __init__(self):
            BUILT.append("later")

        async def __call__(self, x):
            return x + 1

    made = node("y")(Later())
    assert made.is_async
    assert BUILT == []
    assert asyncio.run(made(1)) == 2
    assert BUILT == ["later"]


def test_its_repr_is_its_description_until_it_is_built():
    model = Model("p", size=4)
    assert repr(model) == "Model('p', size=4)"
    assert BUILT == []
    assert model.size == 4
    assert repr(model) == object.__repr__(model)


def test_wrong_arguments_are_refused_at_once():
    for args, kwargs in [((), {}), (("p", 1), {}), (("p",), {"colour": 1})]:
        with pytest.raises(TypeError, match=r"Model\(\): "):
            Model(*args, **kwargs)


def test_its_class_keeps_its_signature():
    assert str(inspect.signature(Model)) == "(path, *, size=3)"
    assert node("model")(Model).root_args == ("path", "size")
    assert str(inspect.signature(stateful(type("Bare", (), {})))) == "()"


def test_a_plain_class_can_be_decorated_twice():
    assert stateful(Model) is Model
    assert Model("p").path == "p"


def test_a_failure_is_its_own_and_it_is_tried_again():
    for error in (MineError("mine"), AttributeError("mine"), KeyboardInterrupt()):
        plain = Plain(error)
        for _ in range(2):
            with pytest.raises(type(error)) as caught:
                plain.value  # noqa: B018
            assert str(caught.value) == str(error)
        assert len(BUILT) == 2
        BUILT.clear()


def test_what_fails_leaves_nothing_behind():
    @stateful
    class Once:
        def __init__(self):
            BUILT.append(dict(vars(self)))
            self.half = True
            if len(BUILT) == 1:
                raise MineError

    once = Once()
    with pytest.raises(MineError):
        once.half  # noqa: B018
    assert once.half
    assert BUILT == [{}, {}]


def test_many_threads_build_one():
    model, barrier = Model("p"), threading.Barrier(8)

    def use(x):
        barrier.wait()
        return model(x)

    with futures.ThreadPoolExecutor(8) as pool:
        assert list(pool.map(use, range(8))) == [3 * x for x in range(8)]
    assert BUILT == ["p"]


def test_threads_that_build_it_may_use_it():
    @stateful
    class Sharded:
        def __init__(self):
            with futures.ThreadPoolExecutor(2) as pool:
                self.shards = list(pool.map(self.load, range(3)))

        def load(self, number):
            return -number

    assert Sharded().shards == [0, -1, -2]


def test_nobody_sees_it_half_built():
    inside, leave = threading.Event(), threading.Event()

    @stateful
    class Slow:
        def __init__(self):
            self.state = "half"
            inside.set()
            leave.wait(30)
            self.state = "whole"

    slow = Slow()
    with futures.ThreadPoolExecutor(2) as pool:
        first = pool.submit(lambda: slow.state)
        assert inside.wait(30)
        second = pool.submit(lambda: slow.state)
        assert not futures.wait([second], 0.05).done
        leave.set()
        assert (first.result(30), second.result(30)) == ("whole", "whole")


# ---------------------------------------------------------------- classes


def test_what_cannot_be_built_later_is_refused():
    class Point(NamedTuple):
        x: int

    kinds = [
        (lambda: 0, "is for classes"),
        (int, "int"),
        (type("Mapping", (dict,), {}), "dict"),
        (type("Bad", (ValueError,), {}), "ValueError"),
        (type("Meta", (type,), {}), "type"),
        (type("Local", (threading.local,), {}), "native code"),
        (Point, "tuple"),
        (enum.Enum("Colour", "RED"), "enumeration"),
    ]
    for kind, reason in kinds:
        with pytest.raises(TypeError, match=re.escape(reason)):
            stateful(kind)


@pytest.mark.parametrize(
    "slots",
    [("a",), ("a", "__weakref__"), ("a", "__dict__", "__weakref__"), ("__dict__",), ()],
)
def test_slots_are_refused(slots):
    class Slotted:
        __slots__ = slots

    class Below(Slotted):
        pass

    with pytest.raises(TypeError, match="Slotted: state has to be in __dict__; take __slots__"):
        stateful(Slotted)
    if "a" in slots:
        with pytest.raises(TypeError, match="Below: state has to be in __dict__"):
            stateful(Below)


def test_slots_of_a_subclass_are_refused_when_it_is_made():
    class Slotted(Plain):
        __slots__ = ("a",)

    @dataclass(slots=True, weakref_slot=True)
    @stateful
    class Late:
        a: int = 1

    for kind in (Slotted, Late):
        with pytest.raises(TypeError, match=f"{kind.__name__}: state has to be in __dict__"):
            kind()


def test_what_init_hands_out_sees_the_instance():
    @stateful
    class Counter:
        def __init__(self):
            self.n = 0
            self.bump = self.increase

        def increase(self):
            self.n += 1

    counter = Counter()
    counter.bump()
    counter.bump()
    assert counter.n == 2


def test_dataclasses_will_do():
    @stateful
    @dataclass(frozen=True)
    class Frozen:
        a: int
        b: int = 2

        def __post_init__(self):
            BUILT.append(self.a)

    frozen = Frozen(a=1)
    assert BUILT == []
    assert {frozen: 0} == {Frozen(1): 0}
    assert (frozen.a, repr(frozen)[-9:]) == (1, "a=1, b=2)")


def test_a_dataclass_may_be_made_of_a_stateful_class():
    @dataclass
    @stateful
    class Late:
        a: int = 1

    late = Late(4)
    assert type(late) is not Late
    assert (late.a, type(late)) == (4, Late)


def test_pydantic_models_will_do():
    @stateful
    class Settings(pydantic.BaseModel):
        a: int
        b: str = "b"

        def model_post_init(self, context):
            BUILT.append(self.a)

    settings = Settings(a="1")
    assert BUILT == []
    assert settings.model_dump() == {"a": 1, "b": "b"}
    assert settings == Settings(a=1)
    with pytest.raises(pydantic.ValidationError):
        Settings(a="x").a  # noqa: B018


def test_wrong_fields_of_a_pydantic_model_are_refused_at_once():
    @stateful
    class Settings(pydantic.BaseModel):
        a: int
        b: list = pydantic.Field(default_factory=list)

    class Deeper(Settings):
        c: int

    class Open(Settings, extra="allow"):
        pass

    for kind, arguments, reason in [
        (Settings, {}, "missing a required argument: 'a'"),
        (Settings, {"a": 1, "c": 2}, "unexpected keyword argument 'c'"),
        (Deeper, {"a": 1}, "missing a required argument: 'c'"),
        (Open, {"c": 1}, "missing a required argument: 'a'"),
    ]:
        with pytest.raises(TypeError, match=rf"{kind.__name__}\(\): .*{reason}"):
            kind(**arguments)
    assert (Settings(a=1).b, Deeper(a=1, c=2).c, Open(a=1, c=3).c) == ([], 2, 3)
    assert hash_value(Settings(a=1, b=[])) == hash_value(Settings(b=[], a=1))
    assert cloudpickle.loads(cloudpickle.dumps(Settings(a=1))).b == []


def test_a_pydantic_model_that_takes_more_than_its_fields_looks_at_them_itself():
    @stateful
    class Aliased(pydantic.BaseModel, populate_by_name=True):
        a: int = pydantic.Field(alias="other")

    @stateful
    class Filled(pydantic.BaseModel):
        a: int

        @pydantic.model_validator(mode="before")
        @classmethod
        def fill(cls, values):
            return {"a": 1, **values}

    @stateful
    class Own(pydantic.BaseModel):
        a: int

        def __init__(self, b):
            super().__init__(a=b)

    made = [Aliased(a=1), Aliased(other=1), Filled(), Own(1)]
    assert [each.a for each in made] == [1, 1, 1, 1]


def test_generic_and_abstract_classes_will_do():
    @stateful
    class Box(abc.ABC, Generic[T]):
        def __init__(self, value: T):
            BUILT.append(value)
            self.value = value

        @abc.abstractmethod
        def show(self): ...

    class Shown(Box[T]):
        def show(self):
            return [self.value]

    with pytest.raises(TypeError, match="abstract"):
        Box(1)
    shown = Shown[int](2)
    assert isinstance(shown, Box)
    assert BUILT == []
    assert shown.show() == [2]


def test_subclasses_are_stateful_too():
    class Bigger(Model):
        def __init__(self, by):
            super().__init__("big", size=by)
            self.by = by

    @stateful
    class Biggest(Bigger):
        def __call__(self, x):
            return super().__call__(x) + 1

    for kind, expected in [(Bigger, 10), (Biggest, 11)]:
        bigger = kind(5)
        assert str(inspect.signature(kind)) == "(by)"
        assert BUILT == []
        assert bigger(2) == expected
        assert (bigger.path, type(bigger)) == ("big", kind)
        assert cloudpickle.loads(cloudpickle.dumps(kind(5)))(2) == expected
        BUILT.clear()


def test_classes_hear_of_no_hidden_subclass():
    told = []

    class Meta(type):
        def __new__(cls, name, bases, members):
            told.append(name)
            return super().__new__(cls, name, bases, members)

    @stateful
    class Registered(metaclass=Meta):
        def __init_subclass__(cls):
            told.append(f"subclass {cls}")

    assert Registered().__class__ is Registered
    assert told == ["Registered"]


def test_a_new_of_its_own_is_called_when_it_is_built():
    @stateful
    class Own:
        def __new__(cls, *args):
            BUILT.append(("new", *args))
            made = super().__new__(cls)
            made.early = True
            return made

        def __init__(self, value):
            BUILT.append(("init", value))
            self.value = value

    class Theirs(Own):
        def __new__(cls, *args):
            made = super().__new__(cls, *args)
            made.more = 1
            return made

    @stateful
    class Again(Theirs):
        def __new__(cls, value):
            return super().__new__(cls, value)

    for kind in (Own, Theirs, Again):
        own = kind(1)
        assert BUILT == []
        assert (own.value, own.early) == (1, True)
        assert BUILT == [("new", 1), ("init", 1)]
        BUILT.clear()


def test_a_new_that_gives_something_else_is_refused():
    @stateful
    class Odd:
        def __new__(cls):
            return 3

    with pytest.raises(TypeError, match=r"__new__ of .*Odd gave 3"):
        Odd().x  # noqa: B018


def test_instances_that_are_made_while_one_is_built_are_built_later():
    @stateful
    class Node:
        def __init__(self, depth):
            BUILT.append(depth)
            self.child = Node(depth - 1) if depth else None

    root = Node(3)
    assert root.child.child is not None
    assert BUILT == [3, 2]


def test_an_own_getattr_is_asked_once_it_is_built():
    @stateful
    class Proxy:
        def __init__(self):
            self.of = {"a": 1}

        def __getattr__(self, name):
            if name in self.of:
                return self.of[name]
            raise AttributeError(f"no {name} in the proxy")

    assert Proxy().a == 1
    with pytest.raises(AttributeError, match="no b in the proxy"):
        Proxy().b  # noqa: B018
    assert not hasattr(Proxy(), "__wrapped__")


def test_what_cleans_up_does_so_once_and_only_after_it_was_built():
    ended = []

    @stateful
    class Connection:
        def __init__(self):
            self.open = True
            self.callback = self.end
            weakref.finalize(self, ended.append, "finalized")

        def end(self):
            ended.append("end")

        def __del__(self):
            ended.append("del")

    del_unbuilt = Connection()
    del del_unbuilt
    connection = Connection()
    assert connection.open
    connection.itself = connection
    gc.collect()
    assert ended == []
    connection.callback()
    del connection
    gc.collect()
    assert sorted(ended) == ["del", "end", "finalized"]


@stateful
class Blank:
    """One with another constructor."""

    def __init__(self, path):
        BUILT.append(path)
        self.path = path

    @classmethod
    def other(cls, path):
        made = cls.__new__(cls)
        made.path = path
        return made

    def __call__(self, x):
        return self.path * x


@stateful
class Validated(pydantic.BaseModel):
    path: str
    _twice: str = ""

    def model_post_init(self, context):
        self._twice = 2 * self.path

    def __call__(self, x):
        return self.path * x


class Holder(pydantic.BaseModel):
    held: Validated


MADE_WITHOUT_INIT = [
    lambda: Blank.other("p"),
    lambda: Validated.model_validate({"path": "p"}),
    lambda: Validated.model_validate_json('{"path": "p"}'),
    lambda: Validated.model_construct(path="p"),
    lambda: Holder(held={"path": "p"}).held,
    lambda: pydantic.TypeAdapter(list[Validated]).validate_python([{"path": "p"}])[0],
]


@pytest.mark.parametrize("make", MADE_WITHOUT_INIT)
@pytest.mark.parametrize(
    "copied",
    [
        lambda m: pickle.loads(pickle.dumps(m)),
        lambda m: cloudpickle.loads(cloudpickle.dumps(m)),
        copy.copy,
        copy.deepcopy,
    ],
)
def test_what_is_made_without_init_is_copied_as_any_object(make, copied):
    made = make()
    other = copied(made)
    assert other is not made
    assert (other.path, made.path, other(2)) == ("p", "p", "pp")
    assert type(made) is type(other) is made.__class__
    assert copied(other).path == "p"
    assert BUILT == []


@pytest.mark.parametrize("make", MADE_WITHOUT_INIT)
@pytest.mark.parametrize(
    "use",
    [
        lambda m: m.path,
        lambda m: m(2),
        vars,
        lambda m: hasattr(m, "absent"),
    ],
)
def test_what_is_made_without_init_is_plain_from_its_first_use_on(make, use):
    made = make()
    use(made)
    assert type(made) is made.__class__
    assert "absent" not in dir(made)
    with pytest.raises(AttributeError, match="has no attribute 'absent'"):
        made.absent  # noqa: B018


@pytest.mark.parametrize("make", MADE_WITHOUT_INIT)
def test_what_is_made_without_init_counts_by_its_attributes(make):
    other = make()
    other.path = "q"
    assert hash_value(make()) == hash_value(make()) != hash_value(other)


def test_what_is_made_without_init_may_have_a_key():
    @stateful
    class Keyed(Given):
        pass

    one, other = Keyed.__new__(Keyed), Keyed.__new__(Keyed)
    one.version, other.version = 1, 2
    assert hash_value(one) != hash_value(other)


def test_a_model_in_a_model_is_written_as_any():
    holder = Holder(held={"path": "p"})
    assert holder.model_dump() == {"held": {"path": "p"}}
    assert Holder(held=Validated(path="p")) == holder
    assert Holder(held={"path": "p"}).model_dump_json() == '{"held":{"path":"p"}}'
    copied = holder.held.model_copy(update={"path": "q"})
    assert (copied.path, holder.held.path, holder.held._twice) == ("q", "p", "pp")


def test_nothing_is_kept_of_an_instance_that_is_gone():
    before = len(_entries)
    model = Model("p")
    model.me = model
    other = pickle.loads(pickle.dumps(Model("q")))
    assert other.path == "q"
    del model, other
    gc.collect()
    assert len(_entries) == before


# ---------------------------------------------------------------- on its way


@pytest.mark.parametrize(
    "copied",
    [
        *(lambda m, p=p: pickle.loads(pickle.dumps(m, p)) for p in range(6)),
        lambda m: cloudpickle.loads(cloudpickle.dumps(m)),
        copy.copy,
        copy.deepcopy,
    ],
)
@pytest.mark.parametrize("is_built", [True, False])
def test_it_travels_as_its_description_and_comes_home_as_itself(copied, is_built):
    model = Model("p", size=5)
    if is_built:
        assert model.size == 5
    assert copied(model) is model
    assert ["p"][: int(is_built)] == BUILT


@pytest.mark.parametrize(
    "copied",
    [
        lambda m: pickle.loads(pickle.dumps(m)),
        copy.copy,
        copy.deepcopy,
        lambda m: copy.deepcopy({"m": m})["m"],
    ],
)
def test_a_copy_at_home_is_that_very_one_and_not_an_equal_one(copied):
    first, second, third = (Plain([]) for _ in range(3))
    for _ in range(2):
        for each in (first, second, third):
            assert copied(each) is each
    data = pickle.dumps(second)
    del second
    gc.collect()
    assert pickle.loads(data) is first
    assert BUILT == []


def test_its_arguments_are_those_of_the_moment_when_it_was_sent_or_built():
    options = {"a": 1}
    plain = Plain(options)
    data = pickle.dumps(plain)
    options["a"] = 2
    assert plain.value == {"a": 1}
    del plain
    assert pickle.loads(data).value == {"a": 1}


def test_what_init_does_to_its_arguments_does_not_change_its_identity():
    @stateful
    class Popping:
        def __init__(self, options):
            self.a = options.pop("a")

    popping, other = Popping({"a": 1}), Popping({"a": 1})
    assert popping.a == 1
    assert hash_value(popping) == hash_value(other)


def test_arguments_that_cannot_be_pickled_will_do_where_it_does_not_travel():
    lock = threading.Lock()
    plain = Plain(lock)
    assert plain.value is lock
    reason = r"^argument 'value' of Plain\(\.\.\.\) cannot be pickled: .*lock"
    with pytest.raises(TypeError, match=reason):
        pickle.dumps(plain)
    pipeline = Pipeline([node("y")(lambda x, plain: x)])
    with ProcessPoolExecutor(max_workers=1) as executor:
        config = RuntimeConfig(executor=executor)
        with pytest.raises(SerializationError, match=r"argument 'value' of Plain\(\.\.\.\)"):
            pipeline.run({"x": 1, "plain": plain}, config=config)


def test_stateful_arguments_are_shared_as_well():
    inner = Model("p")
    outer = pickle.loads(foreign(Plain(inner)))
    assert BUILT == []
    assert outer.value is inner
    assert outer.value.path == "p"


def test_reading_its_arguments_leaves_classes_as_they_are():
    class Options:
        seen = 1

    plain = Plain(Options())
    cloudpickle.dumps(plain)
    Options.seen = 2
    assert plain.value.seen == 2
    assert Options.seen == 2


def foreign(model):
    """Return a model as another process sends it."""
    return pickle.dumps(model).replace(HOME.encode(), b"0" * len(HOME))


def test_equal_ones_that_arrive_are_one():
    data = foreign(Model("p")), foreign(Model(path="p")), foreign(Model("q"))
    first, second, other = map(pickle.loads, data)
    assert first is second
    assert first is not other
    assert first.path == second.path
    assert BUILT == ["p"]


@stateful
class Placed:
    def __init__(self, path, device="cpu", *, size=3, zero=0.0, options=(), **others):
        self.given = path, device, size, zero, options, others


def test_what_is_given_as_it_is_by_default_is_no_difference():
    same = [
        Placed("p"),
        Placed("p", "cpu"),
        Placed("p", device="cpu", size=3),
        Placed("p", zero=0.0),
    ]
    assert len({hash_value(each) for each in same}) == 1
    assert len({id(pickle.loads(foreign(each))) for each in same}) == 1
    others = [Placed("p", size=True), Placed("p", zero=-0.0), Placed("p", "gpu"), Placed("p", a=1)]
    assert len({hash_value(each) for each in [*same, *others]}) == 5
    assert Placed("p", "cpu", size=4).given == ("p", "cpu", 4, 0.0, (), {})


def test_one_that_is_needed_again_is_still_there():
    data = foreign(Model("p"))
    for _ in range(3):
        assert pickle.loads(data).path == "p"
    assert BUILT == ["p"]


def test_only_some_stay_when_nobody_needs_them():
    models = [Model(f"p{number}") for number in range(_MOST_KEPT + 3)]
    data = list(map(foreign, models))
    del models
    for each in [*data, data[-1], data[-2]]:
        assert pickle.loads(each)(1) == 3
    assert [f"p{number}" for number in range(len(data))] == BUILT
    gc.collect()
    assert len(_kept) == _MOST_KEPT
    assert pickle.loads(data[0]).path == "p0"
    assert BUILT[-1] == "p0"


def test_one_that_comes_home_does_not_stay():
    data = pickle.dumps(Model("p"))
    gc.collect()
    assert pickle.loads(data).path == "p"
    assert _kept == {}


# ---------------------------------------------------------------- caches


def test_it_counts_by_its_class_and_its_arguments():
    same = hash_value(Model("p", size=4))
    assert hash_value(Model(size=4, path="p")) == same
    others = [Model("p", size=5), Model("q", size=4), Model("p"), Plain("p")]
    assert same not in map(hash_value, others)
    assert BUILT == []
    built = Model("p", size=4)
    built.size = 9
    assert hash_value(built) == same
    assert hash_value([built]) == hash_value([Model("p", size=4)])


def test_arguments_without_identity_are_named():
    with pytest.raises(NoStableIdentityError, match=r"at \.value\[0\]"):
        hash_value(Plain([threading.Lock()]))


def test_arguments_of_one_name_are_told_apart():
    @stateful
    class Two:
        def __init__(self, a, /, **others): ...

    assert len({hash_value(each) for each in (Two(1), Two(2), Two(1, a=2), Two(2, a=1))}) == 4


def test_the_code_of_its_class_counts_and_not_that_of_the_decorator():
    def made(decorate, new):
        class Some:
            def __init__(self, a): ...

            __new__ = new

        return decorate(Some)

    def one(cls, *args):
        return object.__new__(cls)

    def other(cls, *args):
        return object.__new__(cls) or None

    def marked(cls):
        cls.__daft_stateful__ = True
        cls.__hypernodes_new__ = vars(cls)["__new__"]
        cls.__hypernodes_described__ = None
        return cls

    code = [hash_code(made(*each)) for each in ((stateful, one), (marked, one), (stateful, other))]
    assert code[0] == code[1] != code[2]


def test_its_key_is_asked_for_without_building_it():
    @stateful
    class Keyed:
        unit = "s"

        def __init__(self, path, version=1, **options):
            BUILT.append(path)
            self.path = path
            self.version = version
            self.other = path * 2

        @property
        def name(self):
            return f"{self.path}.{self.version}"

        @cached_property
        def length(self):
            return len(self.path)

        def suffix(self):
            return self.unit

        def __cache_key__(self):
            return self.name, self.length, self.suffix()

    assert hash_value(Keyed("p")) == hash_value(Keyed("p", version=1, colour=2))
    assert hash_value(Keyed("p")) != hash_value(Keyed("p", 2))
    assert BUILT == []

    class Deeper(Keyed):
        def __cache_key__(self):
            return super().__cache_key__(), self.other

    assert hash_value(Deeper("p")) != hash_value(Keyed("p"))
    assert BUILT == ["p"]


def test_a_key_of_a_dataclass_sees_its_fields():
    @stateful
    @dataclass
    class Keyed:
        a: int
        b: int = 2
        c: list = field(default_factory=lambda: BUILT.append("c") or [])

        def __cache_key__(self):
            return (self.a, self.b) if self.a else self.c

    assert hash_value(Keyed(1)) == hash_value(Keyed(1, 2, [3]))
    assert BUILT == []
    assert hash_value(Keyed(0)) == hash_value(Keyed(0, 1))
    assert BUILT == ["c", "c"]


class Given:
    """One argument, and a key that says which it is."""

    def __init__(self, version):
        self.version = version

    def __cache_key__(self):
        return self.version


class Chosen(Given):
    def __init__(self, version="latest"):
        self.version = LATEST[0] if version == "latest" else version


class Rebound(Given):
    def __init__(self, version):
        if version == "latest":
            version = LATEST[0]
        self.version = version


class Later(Given):
    def __init__(self, version):
        self.version = version
        self.resolve()

    def resolve(self):
        self.version = LATEST[0]


class Handed(Given):
    def __init__(self, version):
        self.version = version
        Later.resolve(self)


class Upper(Given):
    def __init__(self, version):
        self.version = version
        super().__init__(LATEST[0])


class Named(Given):
    def __init__(self, version):
        self.version = version
        setattr(self, "version", LATEST[0])  # noqa: B010


class Filled(Given):
    def __init__(self, version):
        self.version = version
        self.__dict__["version"] = LATEST[0]


class Caught(Given):
    def __init__(self, version):
        try:
            int(f"not {LATEST[0]}")
        except ValueError as version:  # noqa: PLR1704
            self.version = str(version)


class Changed(Given):
    def __init__(self, version):
        self.version = version
        if version == "first":
            return
        self.version += LATEST[0]


class Whole(Given):
    def __init__(self, version):
        self.found = LATEST[0]

    def __cache_key__(self):
        return sorted(vars(self).items())


class Shown(Whole):
    def __repr__(self):
        return self.found

    def __cache_key__(self):
        return repr(self), str(self)


class Typed(Whole):
    def __cache_key__(self):
        return type(self).__qualname__, dict(**vars(self))


class Set(Given):
    def __init__(self, version):
        self.version = version

    @property
    def version(self):
        return self._version

    @version.setter
    def version(self, value):
        self._version = LATEST[0]


class Trapped(Given):
    def __init__(self, version):
        self.version = version

    def __setattr__(self, name, value):
        super().__setattr__(name, LATEST[0])


@dataclass
class PostInit(Given):
    version: str

    def __post_init__(self):
        self.version = LATEST[0]


class AsModel(pydantic.BaseModel):
    version: str

    @pydantic.field_validator("version")
    @classmethod
    def resolved(cls, value):
        return LATEST[0]

    def __cache_key__(self):
        return self.version


def wrapped(init):
    def __init__(self, version):  # noqa: N807
        init(self, LATEST[0])

    __init__.__wrapped__ = init
    return __init__


class Wrapped(Given):
    __init__ = wrapped(Given.__init__)


LATEST = Log(["1"])


@pytest.mark.parametrize(
    "kind",
    [
        *(Chosen, Rebound, Later, Handed, Upper, Named, Filled, Caught, Changed, Whole, Shown),
        *(Typed, Set, Trapped, PostInit, AsModel, Wrapped),
    ],
)
def test_a_key_sees_no_argument_that_may_not_be_the_attribute(kind):
    kind = stateful(type(kind)(kind.__name__, (kind,), {"__module__": __name__}))
    keys = []
    for LATEST[0] in ("1", "2", "1"):
        keys.append(hash_value(kind(version="latest")))
    assert keys[0] == keys[2] != keys[1]


def test_a_key_sees_what_init_does_to_an_argument():
    @stateful
    class Options(Given):
        def __init__(self, version):
            self.version = version
            version["latest"] = LATEST[0]

    keys = []
    for LATEST[0] in ("1", "2"):
        keys.append(hash_value(Options({})))
    assert keys[0] != keys[1]


def test_what_is_only_marked_counts_as_before():
    class Marked:
        __daft_stateful__ = True

        def __init__(self, a):
            self.a = a

    class Named(Marked):
        def __cache_key__(self):
            return "named"

    assert hash_value(Marked(1)) != hash_value(Marked(2))
    assert hash_value(Named(1)) == hash_value(Named(2))


def test_explain_names_it_and_nothing_is_built():
    config = RuntimeConfig(executor="sequential", cache=MemoryCache())
    pipeline = Pipeline([node("y")(lambda x, model: model(x))], config=config)
    assert pipeline.run({"x": 2, "model": Model("p")}) == {"y": 6}
    assert pipeline.explain({"x": 2, "model": Model("p")})["y"].status == "hit"
    changed = pipeline.explain({"x": 2, "model": Model("q")})["y"]
    assert (changed.status, changed.changed) == ("miss", ("model",))
    assert BUILT == ["p"]


CLASS = """
from hypernodes import Pipeline, ProcessPoolExecutor, RuntimeConfig, DiskCache, node, stateful

@stateful
class Model:
    def __init__(self, path, by=2):
        print("building", flush=True)
        self.by = by {change}

    def __call__(self, x):
        return self.by * x

@node("y")
def scaled(x, model):
    return model(x)

if __name__ == "__main__":
    model = Model("p")
    config = RuntimeConfig(executor=ProcessPoolExecutor(max_workers=1), cache=DiskCache("cache"))
    pipeline = Pipeline([scaled, node("z")(lambda x, model=model: -model(x))], config=config)
    print(pipeline.map({{"x": [1, 2], "model": model}}, map_over="x"))
    print(repr(model))
"""


def test_another_program_finds_what_it_made_until_its_code_changes(run_script):
    built, others = [], []
    for change in ("", "", "+ 1"):
        lines = run_script(CLASS.format(change=change)).stdout.splitlines()
        built.append(lines.count("building"))
        others.append([line for line in lines if line != "building"])
    assert built == [1, 0, 1]
    assert others[0] == others[1]
    assert others[0] == ["[{'y': 2, 'z': -2}, {'y': 4, 'z': -4}]", "Model('p')"]
    assert others[2][0] == "[{'y': 3, 'z': -3}, {'y': 6, 'z': -6}]"


# ---------------------------------------------------------------- pipelines


def test_what_is_stateful_to_a_node_cannot_be_mapped_over(sequential):
    use = node("y", stateful_params=("model",))(lambda x, model: model(x))
    inner = Pipeline([use.rename(inputs={"model": "m"})], name="inner")
    outer = Pipeline([inner.as_node(input_mapping={"mm": "m"})], config=sequential)
    attempts = [
        (lambda: inner.map({"x": 1, "m": [Model("p")]}, map_over="m"), "m"),
        (lambda: inner.as_node(input_mapping={"mm": "m"}, map_over="mm"), "mm"),
        (lambda: outer.map({"x": 1, "mm": [Model("p")]}, map_over=("x", "mm")), "mm"),
        (lambda: outer.as_node(map_over="mm"), "mm"),
    ]
    for attempt, name in attempts:
        with pytest.raises(InputError, match=f"cannot map over '{name}'.*'{use.name}'") as caught:
            attempt()
        assert (caught.value.name, caught.value.node) == (name, use.name)
    assert outer.map({"x": [1, 2], "mm": Model("p")}, map_over="x") == [{"y": 3}, {"y": 6}]
    assert outer.run({"x": 1, "mm": Model("p")}) == {"y": 3}


def test_a_list_that_is_stateful_to_a_node_is_given_as_it_is(config):
    use = node("y", stateful_params="models")(lambda x, models: [model(x) for model in models])
    models = [Model("p"), Model("q", size=1)]
    found = Pipeline([use]).map({"x": [1, 2], "models": models}, map_over="x", config=config)
    assert found == [{"y": [3, 1]}, {"y": [6, 2]}]


def test_one_value_that_is_shared_cannot_be_mapped_over(sequential):
    pipeline = Pipeline([node("y")(lambda model: 0)], config=sequential)
    with pytest.raises(InputError, match="all items share a Model"):
        pipeline.map({"model": Model("p")}, map_over="model")
    assert BUILT == []


def test_who_observes_does_not_build_it(tmp_path):
    (tmp_path / "marks").mkdir()
    marks = Marks(tmp_path / "marks")
    pytest.importorskip("jinja2")
    model = Marking(marks)
    report = RunReport(tmp_path / "report.html")
    with ProcessPoolExecutor(max_workers=1) as executor:
        config = RuntimeConfig(executor=executor, callbacks=(report,))
        pipeline = Pipeline([node("y")(lambda x, model: model(x))], config=config)
        assert pipeline.run({"x": 1, "model": model}) == {"y": 2}
        assert pipeline.map({"x": [1], "model": model}, map_over="x") == [{"y": 2}]
    assert "Model(" in repr(model)
    assert len(marks.names()) == 1


def test_it_is_built_once_in_each_worker_of_a_remote_cluster(remote, tmp_path):
    (tmp_path / "marks").mkdir()
    marks = Marks(tmp_path / "marks")
    model = Marking(marks)
    pipeline = Pipeline([node("y")(lambda x, model: model(x))])
    with RemoteBackend(kind="dask", address=remote.address) as backend:
        for executor in ("sequential", "thread"):
            config = RuntimeConfig(backend=backend, executor=executor)
            inputs = {"x": range(30), "model": model}
            found = pipeline.map(inputs, map_over="x", config=config)
            assert found == [{"y": 2 * x} for x in range(30)]
    assert set(marks.counts().values()) == {1}
    assert "Model(" in repr(model)
