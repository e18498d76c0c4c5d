"""Memory that a tensor borrows, and memory that it lends."""

import array
import ctypes
import gc
import hashlib
import mmap

import numpy as np
import pytest

from fuzz.seeds import legacy, tensor_pickle
from tests.checkpoint.source.builders import entry, pickled, safetensors
from torch2mlx import _core

BYTES = safetensors({"x": entry("U8", [65536], 0, 65536)}, bytes(range(256)) * 256)


def first_tensor(found):
    """The one tensor of what a reader returned."""
    if not isinstance(found, tuple):
        return found
    tensors = found[0]
    return tensors["a"] if isinstance(tensors, dict) else tensors[0][1]


LENDERS = {
    # name: (bytes, function that borrows from an object that holds them)
    "safetensors": (BYTES, _core.read_safetensors),
    "zip": (pickled(tensor_pickle()), _core.read_torch),
    "legacy": (legacy(), _core.read_torch),
    "buffer": (bytes(100), lambda source: _core.from_buffer(source, "uint8")),
}


@pytest.mark.parametrize("name", LENDERS)
def test_a_bytearray_cannot_be_resized_while_a_tensor_borrows_it(name):
    content, borrow = LENDERS[name]
    source = bytearray(content)
    tensor = first_tensor(borrow(source))
    view = np.asarray(tensor)
    expected = view.copy()
    for change in (source.clear, lambda: source.extend(bytes(1 << 20)), source.pop):
        with pytest.raises(BufferError):
            change()
    np.testing.assert_array_equal(view, expected)
    del tensor
    with pytest.raises(BufferError):  # the array of numpy borrows through the tensor
        source.clear()
    del view
    gc.collect()
    source.clear()


@pytest.mark.parametrize("name", LENDERS)
def test_views_of_views_hold_the_memory_too(name):
    content, borrow = LENDERS[name]
    source = bytearray(content)
    tensor = first_tensor(borrow(source))
    rank = len(tensor.shape)
    views = [
        tensor.permute(list(range(rank))[::-1]),
        tensor.split(tensor.shape),
        tensor.narrow(0, 0, 1),
    ]
    del tensor
    while views:
        with pytest.raises(BufferError):
            source.clear()
        views.pop()
    gc.collect()
    source.clear()


def test_arrays_and_memory_maps_stay_open_while_a_tensor_borrows_them(tmp_path):
    numbers = array.array("B", BYTES)
    tensor = first_tensor(_core.read_safetensors(numbers))
    with pytest.raises(BufferError):
        numbers.append(1)
    path = tmp_path / "x"
    path.write_bytes(BYTES)
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    tensor = first_tensor(_core.read_safetensors(mapped))
    with pytest.raises(BufferError):
        mapped.close()
    assert np.asarray(tensor)[255] == 255
    del tensor
    gc.collect()
    mapped.close()


def test_a_memoryview_may_be_released_while_a_tensor_borrows_through_it():
    source = bytearray(BYTES)
    view = memoryview(source)
    tensor = first_tensor(_core.read_safetensors(view))
    with pytest.raises(BufferError):
        view.release()
    with pytest.raises(BufferError):
        source.clear()
    assert bytes(tensor)[:3] == b"\0\1\2"


@pytest.mark.parametrize("borrow", [_core.read_safetensors, _core.read_torch])
def test_a_refused_file_is_let_go_at_once(borrow):
    source = bytearray(b"nothing of the kind")
    with pytest.raises(_core.CoreError):
        borrow(source)
    source.clear()


@pytest.mark.parametrize("borrow", [_core.read_safetensors, _core.read_torch])
def test_a_file_in_pieces_is_refused(borrow):
    with pytest.raises(BufferError):
        borrow(memoryview(BYTES * 2)[::2])
    with pytest.raises(TypeError):
        borrow("text")


class Request(ctypes.Structure):
    """Py_buffer of the C API."""

    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.py_object),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.POINTER(ctypes.c_ssize_t)),
        ("strides", ctypes.POINTER(ctypes.c_ssize_t)),
        ("suboffsets", ctypes.POINTER(ctypes.c_ssize_t)),
        ("internal", ctypes.c_void_p),
    )


ND, STRIDES, FORMAT, WRITABLE = 0x08, 0x18, 0x04, 0x01
LAYOUTS = {
    "simple": 0,
    "nd": ND,
    "strides": STRIDES,
    "C": 0x20 | STRIDES,
    "F": 0x40 | STRIDES,
    "any": 0x80 | STRIDES,
    "C and F": 0x60 | STRIDES,
    "indirect": 0x100 | STRIDES,
}


def granted(exporter, flags):
    """What a request gets: (address, bytes, item size, shape, strides), or None."""
    request = Request()
    get, release = ctypes.pythonapi.PyObject_GetBuffer, ctypes.pythonapi.PyBuffer_Release
    get.argtypes = (ctypes.py_object, ctypes.POINTER(Request), ctypes.c_int)
    release.argtypes = (ctypes.POINTER(Request),)
    try:
        get(exporter, ctypes.byref(request), flags)
    except (BufferError, ValueError):
        return None
    shape = tuple(request.shape[: request.ndim]) if request.shape else ()
    strides = tuple(request.strides[: request.ndim]) if request.strides else ()
    found = (request.buf, request.len, request.itemsize, request.readonly, shape, strides)
    assert bool(request.format) == bool(flags & FORMAT)
    release(ctypes.byref(request))
    return found


def exported_arrays():
    base = np.arange(4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6)
    yield "dense", base
    yield "transposed", base.T
    yield "permuted", base.transpose(1, 0, 2)
    yield "part", base[:, 1:3]
    yield "step", base[::2]
    yield "backwards", base[::-1]
    yield "column", base[:, :, 0]
    yield "row", base[0, 0]
    yield "scalar", base[1, 2, 3]
    yield "one item of many", base[:1, :1, :1]
    yield "empty", base[:0]
    yield "empty inside", base[:, 2:2, ::-1]
    yield "repeated", np.broadcast_to(base[0, 0], (3, 6))
    yield "repeated once", np.broadcast_to(base[0, 0], (1, 6))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("name", "source"), list(exported_arrays()))
def test_a_request_is_granted_exactly_where_the_memory_is_so(name, source, layout):
    """As numpy grants them, for a read-only array of the same memory."""
    source = np.asarray(source)
    source.flags.writeable = False
    tensor = _core.from_buffer(source, "float32")
    for extra in (0, FORMAT):
        expected = granted(source, LAYOUTS[layout] | extra)
        found = granted(tensor, LAYOUTS[layout] | extra)
        assert (found is None) == (expected is None)
        if found:
            assert found[1:5] == expected[1:5]
        if found and source.size:  # what has no items has no place and no steps
            assert found[0] == expected[0]
            assert len(found[5]) == len(expected[5])
            steps = zip(found[4], found[5], expected[5], strict=False)
            assert all(ours == theirs for size, ours, theirs in steps if size > 1)
        assert granted(tensor, LAYOUTS[layout] | extra | WRITABLE) is None


def test_contiguous_tensors_are_bytes_for_whoever_wants_bytes():
    source = np.arange(24, dtype=np.int16).reshape(4, 6)
    dense, turned = _core.from_buffer(source, "int16"), _core.from_buffer(source.T, "int16")
    assert hashlib.sha256(dense).digest() == hashlib.sha256(source.tobytes()).digest()
    assert bytes(dense) == source.tobytes()
    assert bytes(turned) == source.T.tobytes()
    assert memoryview(dense).c_contiguous
    assert memoryview(turned).f_contiguous
    np.testing.assert_array_equal(np.asarray(turned), source.T)
    with pytest.raises(BufferError, match="not contiguous"):
        hashlib.sha256(turned)
    assert hashlib.sha256(turned.dense()).digest() == hashlib.sha256(source.T.tobytes()).digest()
