"""Arrays of numpy among the weights of a .pt: read as they are read from memory, or refused."""

import io
import struct

import numpy as np
import pytest

from tests.checkpoint.source.builders import pickled
from tests.support import need
from torch2mlx import convert, inspect, load_converted
from torch2mlx.errors import CheckpointError, UnsupportedTensorError

ml_dtypes, torch = need("ml_dtypes", "torch")

DTYPES = [
    *("bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"),
    *("float16", "float32", "float64", "complex64"),
]
FILES = {
    "protocol 2": {},
    "protocol 4": {"pickle_protocol": 4},
    "protocol 5": {"pickle_protocol": 5},
    "legacy": {"_use_new_zipfile_serialization": False},
}
FORMS = {
    "C": lambda a: a,
    "Fortran": np.asfortranarray,
    "transposed": lambda a: a.transpose(2, 0, 1),
    "swapped": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "stepped": lambda a: a[::-1, ::2],
    "empty": lambda a: a[:0],
    "0-d": lambda a: a[0, 1, 2],
    "scalar of an array": lambda a: np.asarray(a[1, 2, 0]),
    "read-only": lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape),
}


def draw(dtype):
    return (np.random.randn(3, 4, 5) * 100).astype(dtype)


def converted(source, path):
    """Keys, dtypes, shapes and bytes of what a source becomes."""
    convert(source, path, rules={"**": "identity"})
    found = load_converted(path, framework="numpy")
    return {key: (str(a.dtype), a.shape, np.asarray(a).tobytes()) for key, a in found.items()}


@pytest.mark.parametrize("options", FILES.values(), ids=FILES)
def test_a_dict_of_arrays_is_the_same_from_memory_and_from_a_file(tmp_path, options):
    arrays = {
        f"{dtype} {name}": form(draw(dtype)) for dtype in DTYPES for name, form in FORMS.items()
    }
    state = {"w": torch.ones(2, 2), **arrays}
    torch.save(state, tmp_path / "a.pt", **options)
    assert converted(tmp_path / "a.pt", tmp_path / "file.safetensors") == converted(
        state, tmp_path / "memory.safetensors"
    )


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn", "float8_e5m2"])
@pytest.mark.parametrize("options", FILES.values(), ids=FILES)
def test_dtypes_of_ml_dtypes(tmp_path, dtype, options):
    state = {"w": np.arange(6).astype(getattr(ml_dtypes, dtype)).reshape(2, 3)}
    torch.save(state, tmp_path / "a.pt", **options)
    assert converted(tmp_path / "a.pt", tmp_path / "file.safetensors") == converted(
        state, tmp_path / "memory.safetensors"
    )


def test_values_are_those_of_the_arrays(tmp_path):
    array = np.arange(600, dtype=">f4").reshape(20, 30)
    torch.save({"w": torch.ones(2), "b": array, "t": array.T, "n": np.float64(2.5)}, tmp_path / "a")
    convert(tmp_path / "a", tmp_path / "b.safetensors")
    found = load_converted(tmp_path / "b.safetensors", framework="numpy")
    np.testing.assert_array_equal(found["b"], array)
    np.testing.assert_array_equal(found["t"], array.T)
    assert found["n"] == 2.5 and found["n"].shape == ()


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (np.array([None, 1], object), "numpy objects"),
        (np.array(["a"]), "numpy text"),
        (np.str_("a"), "numpy text"),
        (np.array(["2020-01-01"], "datetime64[D]"), "numpy times"),
        (np.zeros(2, [("a", "f4")]), "numpy records"),
        (np.zeros(2, complex), "complex128"),
        (np.zeros(2, np.longdouble), "unknown numpy dtype"),
        (np.zeros(2, ml_dtypes.float8_e3m4), "unknown numpy dtype"),
        (np.ma.masked_array([1.0, 2.0], [True, False]), r"numpy\.ma\."),
        (np.zeros(2, [("a", "f4")]).view(np.recarray), "numpy array of class"),
    ],
)
@pytest.mark.parametrize("options", FILES.values(), ids=FILES)
def test_arrays_without_an_mlx_form_are_refused_by_name(tmp_path, value, reason, options):
    torch.save({"w": torch.ones(2, 2), "layer.odd": value}, tmp_path / "a.pt", **options)
    with pytest.raises(UnsupportedTensorError, match=rf"'layer\.odd'.*{reason}"):
        convert(tmp_path / "a.pt", tmp_path / "b.safetensors")
    with pytest.raises(UnsupportedTensorError, match=r"'layer\.odd'"):
        convert({"w": torch.ones(2, 2), "layer.odd": value}, tmp_path / "b.safetensors")


def array_pickle(shape, content, order=b"\x89", dtype=b"f4", version=b"K\x01"):
    """{"w": an array} as numpy pickles it, with parts that may not fit each other."""
    start = b"\x80\x03}X\x01\0\0\0wcnumpy.core.multiarray\n_reconstruct\n"
    start += b"(cnumpy\nndarray\nK\0\x85C\x01btR"
    kind = b"cnumpy\ndtype\nX" + struct.pack("<I", len(dtype)) + dtype + b"\x89\x88\x87R"
    kind += b"(K\x03X\x01\0\0\0<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
    data = b"B" + struct.pack("<I", len(content)) + content
    return start + b"(" + version + shape + kind + order + data + b"tbs."


def opened(code, tmp_path):
    (tmp_path / "a.pt").write_bytes(pickled(code))
    return inspect(tmp_path / "a.pt").tensors


def test_arrays_as_old_numpy_pickled_them(tmp_path):
    for version in (b"K\x01", b""):  # the version came later
        code = array_pickle(b"K\x02\x85", bytes(8), version=version)
        assert [(t.key, t.shape, t.dtype) for t in opened(code, tmp_path)] == [
            ("w", (2,), "float32")
        ]


@pytest.mark.parametrize(
    "code",
    [
        array_pickle(b"K\x03\x85", bytes(8)),
        array_pickle(b"K\x01\x85", bytes(8)),
        array_pickle(b"K\x02\x85", bytes(8), dtype=b"f3"),
    ],
    ids=["too few bytes", "too many bytes", "dtype"],
)
def test_arrays_that_do_not_fit_their_bytes_are_refused_by_name(code, tmp_path):
    (tmp_path / "a.pt").write_bytes(pickled(code))
    with pytest.raises(UnsupportedTensorError, match="'w'"):
        convert(tmp_path / "a.pt", tmp_path / "b.safetensors")


@pytest.mark.parametrize(
    "code",
    [
        array_pickle(b"J\xff\xff\xff\xff\x85", bytes(8)),
        array_pickle(b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x87", bytes(8)),
        array_pickle(b"K\x02", bytes(8)),
        array_pickle(b"(" + b"K\x01" * 65 + b"t", bytes(4)),
        array_pickle(b"K\x02\x85", bytes(8), order=b"N"),
    ],
    ids=["negative", "overflow", "no shape", "rank", "order"],
)
def test_malformed_arrays_are_refused(code, tmp_path):
    with pytest.raises(CheckpointError, match=r"a\.pt: byte \d+"):
        opened(code, tmp_path)


def test_an_array_deep_inside_a_dict_of_options_is_no_weight(tmp_path):
    state = {"state_dict": {"w": torch.ones(2, 2)}, "rng": {"state": np.arange(624, dtype="u4")}}
    buffer = io.BytesIO()
    torch.save(state, buffer)
    (tmp_path / "a.pt").write_bytes(buffer.getvalue())
    assert [t.key for t in inspect(tmp_path / "a.pt").tensors] == ["w"]
