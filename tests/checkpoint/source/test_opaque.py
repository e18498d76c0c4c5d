"""Objects in a .pt that are no data: nothing calls them, and only the way to a tensor is closed."""

import argparse
import collections
import copyreg
import datetime
import decimal
import enum
import functools
import pathlib
import pickle
import random
import uuid
from dataclasses import dataclass

import numpy as np
import pytest

from tests.checkpoint.source.builders import pickled
from tests.support import need
from torch2mlx import _core, convert, inspect, load_converted
from torch2mlx.errors import CheckpointError, UnsupportedTensorError

(torch,) = need("torch")
nn = torch.nn


class Color(enum.Enum):
    RED = 1


@dataclass
class Config:
    width: int
    loss: object = None


class Slots:
    __slots__ = ("a", "b")

    def __init__(self):
        self.a, self.b = 1, [2]


class Dict(dict):
    """A dict of another class, as libraries for options have."""


class List(list):
    pass


class Point(collections.namedtuple("Point", "x y")):
    """Made by `__getnewargs__`."""


class Named:
    """Made by named arguments, which protocol 4 has an opcode for."""

    def __new__(cls, *, value):
        return super().__new__(cls)

    def __getnewargs_ex__(self):
        return (), {"value": 1}


class Tensor(torch.Tensor):
    """A subclass whose tensors may mean anything."""


class Old:
    """Pickled by copyreg._reconstructor in protocol 0 and 1."""


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)


VALUES = {
    "partial": functools.partial(print, 1, end=""),
    "function": print,
    "class": nn.Linear,
    "loss": nn.CrossEntropyLoss(weight=torch.ones(3)),
    "module": nn.Sequential(nn.Linear(2, 2), nn.ReLU()),
    "optimizer": torch.optim.AdamW([torch.ones(1, requires_grad=True)]),
    "enum": Color.RED,
    "config": Config(3, loss=Config(4)),
    "slots": Slots(),
    "dict class": Dict(a=1, b=Dict(c=2)),
    "list class": List([1, 2]),
    "named tuple": Point(1, 2),
    "named arguments": Named(value=1),
    "old class": Old(),
    "namespace": argparse.Namespace(lr=0.1, w=torch.ones(2)),
    "defaultdict": collections.defaultdict(list, {"a": [1]}),
    "nested defaultdict": collections.defaultdict(functools.partial(dict), {"a": {}}),
    "counter": collections.Counter("abca"),
    "deque": collections.deque([1, 2], 5),
    "date": datetime.datetime(2020, 1, 2, tzinfo=datetime.timezone.utc),
    "delta": datetime.timedelta(3),
    "path": pathlib.PurePosixPath("a/b"),
    "decimal": decimal.Decimal("1.5"),
    "uuid": uuid.UUID(int=5),
    "complex": 1 + 2j,
    "slice": slice(1, 2),
    "range": range(3),
    "sets": {"a", ("b", frozenset({1}))},
    "bytes": bytearray(b"x" * 100),
    "big": 2**200,
    "random": random.Random(0),
    "generator": np.random.default_rng(0),
    "numpy": [np.float32(1), np.int64(2), np.dtype("f4"), np.array(["a"]), np.bool_(True)],
    "torch": [torch.float16, torch.device("cpu"), torch.Size([1]), torch.get_rng_state()],
    "keys": {(1, 2): 3, None: 4, 1.5: 5, frozenset(): 6, b"x": 7, True: 8, Color.RED: 9},
}
FILES = {
    "protocol 2": {},
    "protocol 4": {"pickle_protocol": 4},
    "protocol 5": {"pickle_protocol": 5},
    "legacy": {"_use_new_zipfile_serialization": False},
}


@pytest.mark.parametrize("options", FILES.values(), ids=FILES)
def test_values_of_any_class_beside_a_state_dict_do_not_matter(tmp_path, options):
    path = tmp_path / "a.pt"
    for value in (*VALUES.values(), VALUES):
        saved = {"state_dict": {"w": torch.ones(2, 2)}, "hyper_parameters": {"value": value}}
        torch.save(saved, path, **options)
        assert [t.key for t in inspect(path).tensors] == ["w"]


HOLDING = ["loss", "module", "optimizer", "namespace"]


@pytest.mark.parametrize("name", ["partial", "enum", "config", "date", "path", "dict class"])
def test_a_value_among_the_weights_that_holds_no_data_is_told(name, tmp_path):
    torch.save({"w": torch.ones(2, 2), "odd": VALUES[name]}, tmp_path / "a.pt")
    report = convert(tmp_path / "a.pt", tmp_path / "b.safetensors")
    assert any("'odd' is no tensor" in note for note in report.notes)
    assert list(load_converted(tmp_path / "b.safetensors", framework="numpy")) == ["w"]


def slotted():
    made = Slots()
    made.b = {"deep": [torch.ones(1)]}
    return made


HIDING = {
    **{name: lambda name=name: VALUES[name] for name in HOLDING},
    "partial": lambda: functools.partial(print, torch.ones(1)),
    "state": lambda: Config(1, loss=(Config(2, loss=[torch.ones(1)]),)),
    "slots": slotted,
    "items of a dict": lambda: Dict(a=Dict(b=torch.ones(1))),
    "items of a list": lambda: List([torch.ones(1)]),
    "an array": lambda: Config(1, loss=np.ones(3)),
    "bytes": lambda: Config(1, loss=b"x" * 100),
    "a storage": lambda: Config(1, loss=torch.ones(2).untyped_storage()),
    "a subclass": lambda: torch.ones(2).as_subclass(Tensor),
}


@pytest.mark.parametrize("make", HIDING.values(), ids=HIDING)
@pytest.mark.parametrize("options", FILES.values(), ids=FILES)
def test_a_value_among_the_weights_that_holds_data_is_refused_by_name(make, options, tmp_path):
    value = make()
    torch.save({"w": torch.ones(2, 2), "layer.odd": value}, tmp_path / "a.pt", **options)
    name = "functools.partial" if isinstance(value, functools.partial) else type(value).__name__
    with pytest.raises(UnsupportedTensorError, match=rf"'layer\.odd'.*{name}.*byte \d+"):
        convert(tmp_path / "a.pt", tmp_path / "b.safetensors")
    assert not (tmp_path / "b.safetensors").exists()


@pytest.mark.parametrize("options", FILES.values(), ids=FILES)
@pytest.mark.parametrize(
    ("wrap", "where"),
    [
        (lambda net: net, "it is"),
        (lambda net: {"model": net, "epoch": 3}, "'model' is"),
        (lambda net: {"a": {"net": Dict(net.state_dict())}}, r"'a\.net' is"),
        (lambda net: [net], "'0' is"),
        (lambda net: Dict(state_dict=net.state_dict()), "it is"),
    ],
)
@pytest.mark.filterwarnings("ignore")  # torch cannot find the source of a class of a test
def test_weights_within_an_object_are_refused_with_advice(wrap, where, options, tmp_path):
    torch.save(wrap(Net()), tmp_path / "a.pt", **options)
    expected = rf"a\.pt: byte \d+: {where} a pickled .*(Net|Dict) object.*state_dict\(\)"
    with pytest.raises(CheckpointError, match=expected):
        convert(tmp_path / "a.pt", tmp_path / "b.safetensors")


def test_what_lies_beside_a_state_dict_and_holds_data_is_told(tmp_path):
    torch.save({"state_dict": {"w": torch.ones(2, 2)}, "loss": VALUES["loss"]}, tmp_path / "a.pt")
    report = convert(tmp_path / "a.pt", tmp_path / "b.safetensors")
    assert any("'loss'" in note and "CrossEntropyLoss" in note for note in report.notes)


OPCODES = {
    "inst": b"(X\x01\0\0\0xios\nsystem\n.",
    "obj": b"(cos\nsystem\nX\x01\0\0\0xo.",
    "reduce": b"cos\nsystem\nX\x01\0\0\0x\x85R.",
    "newobj_ex": b"\x80\x04cos\nsystem\n)}\x92.",
    "build": b"cos\nsystem\n)R}b.",
    "a call of a result": b"cbuiltins\ngetattr\n)R)R.",
    "extension": b"\x80\x02\x82\x01.",
    "persistent id": b"\x80\x02K\x01Q.",
    "persistent text": b"Pabc\n.",
    "append": b"cx\ny\n)RK\x01a.",
    "set items": b"cx\ny\n)R(K\x01K\x02u.",
    "add items": b"\x80\x04cx\ny\n)R(K\x01\x90.",
    "copyreg": b"ccopy_reg\n_reconstructor\n(cmine\nKind\nc__builtin__\nobject\nNtR.",
}


@pytest.mark.parametrize("name", OPCODES)
def test_every_opcode_that_would_run_code_makes_an_opaque_value(name):
    found, _ = _core.read_torch(pickled(OPCODES[name]))
    assert isinstance(found, _core.Foreign) and found.name and not found.is_tensor
    outside = name in ("extension", "persistent id", "persistent text")
    assert found.holds_data == outside  # what is outside of the file may be anything


def test_an_object_is_called_by_its_class():
    assert _core.read_torch(pickled(OPCODES["copyreg"]))[0].name == "mine.Kind"
    found, _ = _core.read_torch(pickled(pickle.dumps(Old(), 0)[:-1] + b"."))
    assert found.name.endswith("Old") and copyreg.__name__ not in found.name


def test_nothing_of_what_an_object_was_given_is_built():
    given = b"](" + b"X\x03\0\0\0abc" * 50_000 + b"e"
    found, _ = _core.read_torch(pickled(b"\x80\x02ca\nb\n" + given + b"\x85R."))
    assert isinstance(found, _core.Foreign) and found.__sizeof__() < 200
