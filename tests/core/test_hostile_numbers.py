"""Every function and method of the core, with numbers that nobody should pass."""

import copy
import hashlib
import os
from collections import namedtuple

import numpy as np
import pytest

from tests.checkpoint.source.builders import small_safetensors
from torch2mlx import _core
from torch2mlx.analysis.records import FACT, MODULE

INTEGERS = [
    *(sign * (2**power + d) for power in (31, 32, 63, 64) for d in (-1, 0, 1) for sign in (1, -1)),
    *(0, 1, 2, -1, 10**30, -(10**30)),
]
OTHERS = [None, True, False, 1.0, float("nan"), "", "\ud800", b"", (), [], {}, object(), 1j]
HOSTILE = [*INTEGERS, *OTHERS, np.int64(3), np.uint64(2**63), np.zeros(3)]
# CoreError is a ValueError
REFUSED = (ValueError, TypeError, OverflowError, BufferError, OSError)

ARRAY = np.arange(24, dtype=np.float32).reshape(4, 6)


def tensor():
    return _core.from_buffer(ARRAY, "float32")


Source = namedtuple("Source", "key shape dtype load")


def odd():
    """A tensor whose steps would leave any memory, were there an item to step to."""
    base = np.zeros((0, 7), np.float32)
    return _core.from_buffer(
        np.lib.stride_tricks.as_strided(base, (0, 7), (2**61, 2**61)), "float32"
    )


def modules(**changes):
    row = {name: 0 for name in MODULE.names} | {"parent": 0xFFFFFFFF} | changes
    return np.array([tuple(row[name] for name in MODULE.names)], MODULE)


def _write(*args, **options):
    with open(os.devnull, "wb") as file:
        # numpy 1 compares an array with a text item by item
        first = file.fileno() if isinstance(args[0], str) and args[0] == "fd" else args[0]
        return _core.write(first, *args[1:], **options)


def same(result, expected):
    np.testing.assert_array_equal(np.asarray(result), expected, strict=True)


def splits(result, args):
    same(result, ARRAY.reshape([int(n) for n in args[0]]))


def permutes(result, args):
    same(result, ARRAY.transpose([int(n) for n in args[0]]))


def narrows(result, args):
    axis, start, length = map(int, args)
    same(result, np.take(ARRAY, range(start, start + length), axis))


def copies(result, args):
    assert result.dtype == "float32" if args[0] is None else args[0]
    same(result, ARRAY)


def anything(result, args):
    pass


# name: (function, its arguments, what must hold when it succeeds)
CALLS = {
    "Tensor.permute": (lambda *a: tensor().permute(*a), [[1, 0]], permutes),
    "Tensor.split": (lambda *a: tensor().split(*a), [[2, 2, 3, 2]], splits),
    "Tensor.narrow": (lambda *a: tensor().narrow(*a), [1, 2, 3], narrows),
    "Tensor.narrow of nothing": (lambda *a: odd().narrow(*a), [1, 2, 3], anything),
    "Tensor.split of nothing": (lambda *a: odd().split(*a), [[0, 7, 1]], anything),
    "Tensor.dense": (lambda *a: tensor().dense(*a), [None, 1, True], copies),
    "Mapping": (_core.Mapping, ["/nowhere"], anything),
    "from_buffer": (_core.from_buffer, [ARRAY, "float32"], anything),
    "from_dlpack": (_core.from_dlpack, [ARRAY], anything),
    "compare": (_core.compare, [tensor(), tensor()], anything),
    "largest": (_core.largest, [tensor()], anything),
    "read_safetensors": (_core.read_safetensors, [small_safetensors()], anything),
    "read_torch": (_core.read_torch, [b"nothing"], anything),
    "crc32": (_core.crc32, [b"abcdefgh", 1, 5, 0, True], anything),
    "safetensors_header": (
        _core.safetensors_header,
        [[("a", "float32", (2, 3)), ("b", "uint8", (4,))], {"format": "pt"}],
        anything,
    ),
    "write": (_write, ["fd", 0, [(tensor(), "float32"), (tensor(), "float16")]], anything),
    "exchange": (_core.exchange, ["/nowhere/a", "/nowhere/b"], anything),
    "rules": (_core.rules, [], anything),
    "fact_kinds": (_core.fact_kinds, [], anything),
    "analyze": (_core.analyze, [modules(), np.zeros(0, FACT), 1], anything),
    "shown_modules": (_core.shown_modules, [["a.b", "a.c.d"]], anything),
    "owners": (
        _core.owners,
        [["", "m", "m.0"], [(0, "m", ("n",))], [(1, {"0": "layers.0"})], ["m.0.w", "n"]],
        anything,
    ),
    "plan_moves": (
        _core.plan_moves,
        [
            *(
                [(0, "", {"a": "a"})],
                [{}],
                {"a": Source("a", (), "", 0)},
                {},
                (int, Source, Source, Source),
            ),
            *((anything, anything, None), [], {}),
        ],
        anything,
    ),
    "borrow_plain": (
        _core.borrow_plain,
        [{"a": tensor(), "b": 1}, Source, None, (str,), frozenset(), None, None],
        anything,
    ),
    "collision": (_core.collision, [["a", "a.b"]], anything),
    "nest": (_core.nest, [{"a.0": 1, "a.1": 2}, True], anything),
    "flatten": (_core.flatten, [{"a": [1, 2]}, "p", None, True], anything),
}
#: Descriptors that a test must not write to.
STANDARD = {0, 1, 2}


def test_no_function_is_left_out():
    public = {
        name for name in dir(_core) if not name.startswith("_") and callable(getattr(_core, name))
    }
    public |= {
        f"Tensor.{n}"
        for n in dir(_core.Tensor)
        if callable(getattr(_core.Tensor, n)) and n[0] != "_"
    }
    types = {name for name in public if isinstance(getattr(_core, name, None), type)}
    assert public - set(CALLS) - types - {"Mapping"} == set()


def places(value, path=()):
    """Paths to every part of nested arguments, the whole included."""
    if path:
        yield path
    if isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from places(item, (*path, i))


def replaced(value, path, new):
    if not path:
        return new
    items = list(value)
    items[path[0]] = replaced(items[path[0]], path[1:], new)
    return tuple(items) if isinstance(value, tuple) else items


def attempt(function, args, check):
    try:
        result = function(*args)
    except REFUSED:
        return
    check(result, args)


@pytest.mark.parametrize("name", CALLS)
def test_a_hostile_argument_is_refused_or_means_what_it_says(name):
    function, args, check = CALLS[name]
    attempt(function, copy.copy(args), check)
    for path in places(args):
        for value in HOSTILE:
            if (
                name == "write"
                and path == (0,)
                and type(value) in (int, bool)
                and value in STANDARD
            ):
                continue
            attempt(function, replaced(args, path, value), check)
    for value in HOSTILE:
        attempt(function, [*args, value], anything)
        attempt(function, [value], anything) if name != "write" else None


OPTIONS = {
    "write": (_write, CALLS["write"][1], ("threads", "span", "simd", "flush", "progress")),
    "dense": (lambda **o: tensor().dense(**o), [], ("dtype", "threads", "simd")),
    "nest": (_core.nest, [{"a": 1}], ("lists",)),
    "flatten": (_core.flatten, [{"a": 1}], ("prefix", "is_leaf", "pairs")),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_a_hostile_option_is_refused_or_harmless(name):
    function, args, options = OPTIONS[name]
    for option in options:
        for value in HOSTILE:
            attempt(lambda *a, o=option, v=value: function(*a, **{o: v}), args, anything)


@pytest.mark.parametrize("size", [2**31, 2**32, 2**62, 2**63 - 1, 2**63, 2**64 - 1])
def test_sizes_whose_product_wraps_are_refused(size):
    """Each shape has 24 items in 64 bits, and only there."""
    for factor in (3, 5, 7, 9, 2**31 + 1):
        wrapped = 24 * pow(factor, -1, 2**64) % 2**64
        with pytest.raises(ValueError, match="do not split"):
            tensor().split((2, 2, factor, wrapped))
    for sizes in ((size, size), (4, size, 6), (4, 6, size), (0, size), (size, 0, 4, 6)):
        with pytest.raises(ValueError):
            tensor().split(sizes)
    for start, length in ((size, 1), (1, size), (size, size), (size, 0), (6, 2**64 - 6)):
        with pytest.raises(ValueError):
            tensor().narrow(1, start, length)
    header = [("a", "float32", (size, size))]
    with pytest.raises(OverflowError):
        _core.safetensors_header(header, {})
    with pytest.raises(OverflowError):
        _core.safetensors_header([("a", "uint8", (2**62,))] * 5, {})


def test_a_file_that_would_end_beyond_every_offset_is_refused(tmp_path):
    with (tmp_path / "x").open("wb") as file:
        for start in (2**63 - 96, 2**63 - 1, 2**63, 2**64 - 96, 2**64 - 1):
            with pytest.raises((_core.CoreError, OSError)):
                _core.write(file.fileno(), start, [(tensor(), "float32")])
            _core.write(file.fileno(), start, [])
    assert (tmp_path / "x").stat().st_size == 0


def test_a_negative_descriptor_is_no_memory():
    with pytest.raises(OSError, match="Bad file descriptor"):
        _core.write(-1, 0, [(tensor(), "float32")])


@pytest.mark.parametrize("name", MODULE.names)
@pytest.mark.parametrize("value", [1, 2, 7, 2**31, 2**32 - 1, 2**64 - 1])
def test_records_that_point_anywhere_are_refused_or_counted(name, value):
    field = MODULE.fields[name][0]
    value = min(value, np.iinfo(field).max)
    facts = np.zeros(1, FACT)
    attempt(_core.analyze, [modules(**{name: value}), facts, 1], anything)
    two = np.concatenate([modules(**{name: value})] * 2)
    if name in ("parameters", "bytes") and value == 2**64 - 1:
        with pytest.raises(_core.CoreError) as error:
            _core.analyze(two, facts, 1)
        assert error.value.args[0] == "OVERFLOW"
    else:
        attempt(_core.analyze, [two, facts, 1], anything)


@pytest.mark.parametrize("name", FACT.names)
@pytest.mark.parametrize("value", [0, 1, 2**31, 2**32 - 1])
def test_facts_that_point_anywhere_are_refused_or_passed_through(name, value):
    fact = np.zeros(1, FACT)
    fact[name] = value
    attempt(_core.analyze, [modules(), fact, 1], anything)


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "u8", "f8", "V7", "V40", "V64", "?"])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 40, 41])
def test_records_of_other_types_are_refused_or_counted(dtype, count):
    other = np.full(count * np.dtype(dtype).itemsize, 255, np.uint8).view(dtype)
    for args in ((other, np.zeros(0, FACT), 1), (modules(), other, 1), (other[1:], other, 1)):
        for classes in (0, 1, 2**32 - 1, 2**32, 2**64):
            attempt(_core.analyze, [*args[:2], classes], anything)
    attempt(_core.analyze, [modules()[::-1].repeat(3)[::2], np.zeros(0, FACT), 1], anything)


def test_a_number_of_classes_is_not_cut_to_32_bits():
    with pytest.raises(OverflowError):
        _core.analyze(b"", b"", 2**32)
    with pytest.raises(TypeError):
        _core.analyze(b"", b"", 1.0)


class Lender:
    """Lends a DLPack capsule whose fields are what a test says."""

    def __init__(self, array, **fields):
        import ctypes

        class Tensor(ctypes.Structure):
            _fields_ = (
                ("data", ctypes.c_void_p),
                ("device_type", ctypes.c_int32),
                ("device_id", ctypes.c_int32),
                ("ndim", ctypes.c_int32),
                ("code", ctypes.c_uint8),
                ("bits", ctypes.c_uint8),
                ("lanes", ctypes.c_uint16),
                ("shape", ctypes.POINTER(ctypes.c_int64)),
                ("strides", ctypes.POINTER(ctypes.c_int64)),
                ("byte_offset", ctypes.c_uint64),
                ("context", ctypes.c_void_p),
                ("deleter", ctypes.c_void_p),
            )

        sizes = fields.get("shape", array.shape)
        steps = fields.get("strides", (6, 1))
        self._shape = (ctypes.c_int64 * 64)(*sizes)
        self._strides = (ctypes.c_int64 * 64)(*steps)
        data = fields.get("data", array.ctypes.data)
        rank = fields.get("ndim", len(sizes))
        code, bits, lanes = fields.get("dtype", (2, 32, 1))
        device = fields.get("device", 1)
        self._tensor = Tensor(data, device, 0, rank, code, bits, lanes, self._shape, self._strides)
        new = ctypes.pythonapi.PyCapsule_New
        new.restype, new.argtypes = (
            ctypes.py_object,
            (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p),
        )
        self._new = lambda: new(ctypes.addressof(self._tensor), b"dltensor", None)

    def __dlpack__(self):
        return self._new()


def test_a_dlpack_tensor_is_what_its_fields_say():
    lender = Lender(ARRAY)
    same(_core.from_dlpack(lender), ARRAY)
    turned = Lender(ARRAY, shape=(6, 4), strides=(1, 6))
    same(_core.from_dlpack(turned), ARRAY.T)


@pytest.mark.parametrize(
    "fields",
    [
        {"ndim": -1},
        {"ndim": 17},
        {"ndim": 2**31 - 1},
        {"shape": (-1, 6)},
        {"shape": (2**62, 2**62)},
        {"shape": (2**63 - 1, 2)},
        {"strides": (2**62, 1)},
        {"strides": (-(2**62), 1)},
        {"data": None},
        {"device": 2},
        {"dtype": (2, 32, 2)},
        {"dtype": (2, 31, 1)},
        {"dtype": (99, 32, 1)},
    ],
    ids=str,
)
def test_a_dlpack_tensor_that_cannot_be_is_refused(fields):
    with pytest.raises((ValueError, BufferError)):
        _core.from_dlpack(Lender(ARRAY, **fields))


def test_an_empty_dlpack_tensor_may_have_no_memory_and_any_steps():
    lender = Lender(ARRAY, shape=(0, 6), strides=(2**62, -(2**62)), data=None)
    empty = _core.from_dlpack(lender)
    assert empty.shape == (0, 6)
    assert empty.narrow(1, 3, 2).shape == (0, 2)
    assert bytes(empty) == b""


def test_repeated_memory_whose_dense_size_is_beyond_63_bits_is_refused():
    one = np.zeros(1, np.float32)
    for shape in ((2**40, 2**40), (2**61,), (2**62, 2)):
        lender = Lender(one, shape=shape, strides=(0,) * len(shape))
        with pytest.raises(ValueError):
            _core.from_dlpack(lender)
    vast = _core.from_dlpack(Lender(one, shape=(2**40, 2), strides=(0, 0)))
    assert vast.nbytes == 2**43
    with pytest.raises(ValueError):
        vast.split((2**40, 2, 2**63))
    with pytest.raises(BufferError):
        hashlib.sha256(vast)


class Shrinking(list):
    """A list that loses its items while it is read."""

    def __getitem__(self, index):
        self.clear()
        raise IndexError(index)

    def __iter__(self):
        while self:
            yield self.pop()


class Index:
    """A number that changes the list it stands in."""

    def __init__(self, target):
        self.target = target

    def __index__(self):
        self.target.clear()
        return 1


def test_arguments_that_change_while_they_are_read_are_survived():
    for make in (Shrinking, list):
        sizes = make([2, 2, 3, 2])
        attempt(lambda s=sizes: tensor().split(s), [], anything)
    trap = [1, 0]
    trap.append(Index(trap))
    attempt(lambda: tensor().split(trap), [], anything)
    attempt(lambda: tensor().permute(trap), [], anything)
    entries = []
    entries += [("a", "uint8", (Index(entries), 2)), ("b", "uint8", (1,))]
    attempt(lambda: _core.safetensors_header(entries, {}), [], anything)
    attempt(lambda: _core.safetensors_header(Shrinking([("a", "uint8", (1,))]), {}), [], anything)
