"""Files of torch.save: what torch writes is read exactly; what could run code is refused."""

import collections
import io
import pickle
import struct
import tracemalloc

import pytest

from tests.read.builders import pickled, zip_file
from tests.support import need, same_bits

(torch,) = need("torch")

from torch2mlx import _core, convert, inspect, revert
from torch2mlx.errors import CheckpointError, UnsupportedTensorError

DTYPES = [
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
    *(torch.uint16, torch.uint32, torch.uint64, torch.float8_e4m3fn, torch.float8_e5m2),
]


def saved(value, **options):
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def draw(dtype, *shape):
    return (torch.randn(shape) * 5).to(dtype)


FORMS = pytest.mark.parametrize(
    "options", [{}, {"_use_new_zipfile_serialization": False}, {"pickle_protocol": 4}], ids=str
)


@FORMS
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype(tmp_path, dtype, options):
    state = {"weight": draw(dtype, 3, 4), "scalar": draw(dtype), "empty": draw(dtype, 0, 2)}
    path = tmp_path / "a.pt"
    path.write_bytes(saved(state, **options))
    convert(path, tmp_path / "b.safetensors")
    found = revert(tmp_path / "b.safetensors")
    assert all(same_bits(found[key], value) for key, value in state.items())


@FORMS
def test_views_share_a_storage_and_keep_their_strides(tmp_path, options):
    base = torch.arange(24.0).reshape(4, 6)
    state = {"whole": base, "turned": base.T, "part": base[1:3, ::2], "row": base[0].expand(3, 6)}
    path = tmp_path / "a.pth"
    path.write_bytes(saved(state, **options))
    convert(path, tmp_path / "b.safetensors")
    found = revert(tmp_path / "b.safetensors")
    for key, value in state.items():
        assert torch.equal(found[key], value)


def test_ordered_dicts_parameters_and_buffers(tmp_path):
    state = collections.OrderedDict(
        weight=torch.nn.Parameter(torch.randn(3)), buffer=torch.arange(3), step=torch.tensor(5)
    )
    path = tmp_path / "a.bin"
    path.write_bytes(saved(state))
    assert [t.key for t in inspect(path).tensors] == ["weight", "buffer", "step"]


class Evil:
    """What an attacker would pickle."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def attacks():
    import builtins
    import os
    import subprocess

    for name, evil in {
        "os.system": Evil(os.system, "touch pwned"),
        "eval": Evil(builtins.eval, "1"),
        "exec": Evil(builtins.exec, "1"),
        "open": Evil(builtins.open, "pwned", "w"),
        "getattr": Evil(builtins.getattr, 1, "real"),
        "import": Evil(builtins.__import__, "this"),
        "popen": Evil(subprocess.Popen, ["true"]),
        "torch.load": Evil(torch.load, "x"),
        "partial": Evil(__import__("functools").partial, print),
    }.items():
        for protocol in (2, 4):
            yield pytest.param(pickle.dumps(evil, protocol), id=f"{name} {protocol}")


@pytest.mark.parametrize("code", list(attacks()))
def test_pickles_that_call_or_import_are_refused_by_name(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(_core.CoreError) as error:
        _core.read_torch(pickled(code))
    status, _, offset, name = error.value.args
    assert status == "PK_GLOBAL" and offset > 0 and name
    assert list(tmp_path.iterdir()) == []


MALFORMED = {
    "inst": b"(S'x'\nios\nsystem\n.",
    "obj": b"(cos\nsystem\nS'x'\no.",
    "extension": b"\x82\x01.",
    "stack underflow": b"\x80\x02a.",
    "no mark": b"\x80\x02t.",
    "no stop": b"\x80\x02]",
    "memo out of range": b"\x80\x02h\x05.",
    "huge memo index": b"\x80\x02]r\xff\xff\xff\xff.",
    "huge string": b"\x80\x04\x8d" + struct.pack("<Q", 2**63) + b"x.",
    "huge bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"x.",
    "set item of a list": b"\x80\x02]K\x01K\x02s.",
    "append to a dict": b"\x80\x02}K\x01a.",
    "deep": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
    "cycle": b"\x80\x02]q\0h\0a.",
    "a storage that is no storage": b"\x80\x02K\x01Q.",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_pickles_are_refused(name):
    with pytest.raises(_core.CoreError):
        _core.read_torch(pickled(MALFORMED[name]))


def test_a_pickled_model_is_refused_with_advice(tmp_path):
    path = tmp_path / "model.pt"
    torch.save(torch.nn.Linear(2, 2), path)
    with pytest.raises(CheckpointError, match=r"torch\.nn\.modules\.linear.*state_dict"):
        convert(path, tmp_path / "x.safetensors")
    assert not (tmp_path / "x.safetensors").exists()


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}], ids=str)
def test_every_truncation_is_refused(options):
    whole = saved({"a": torch.arange(4.0), "b": torch.ones(2, dtype=torch.int8)}, **options)
    for length in range(len(whole)):
        with pytest.raises(_core.CoreError):
            _core.read_torch(whole[:length])


def test_broken_zips_are_refused():
    good = saved({"a": torch.arange(4.0)})
    at = good.rindex(b"PK\5\6")
    cases = {
        "crc": zip_file(
            [("archive/data.pkl", b"\x80\x02}."), ("archive/version", b"3")], bad_crc=True
        ),
        "no pickle": zip_file([("archive/version", b"3\n")]),
        "directory past the end": good[: at + 16] + struct.pack("<I", 2**32 - 2) + good[at + 20 :],
        "directory of 4 GB": good[: at + 12] + struct.pack("<I", 2**32 - 2) + good[at + 16 :],
        "more entries than there are": good[: at + 8]
        + struct.pack("<HH", 999, 999)
        + good[at + 12 :],
        "two entries of one name": zip_file([("a/data.pkl", b"\x80\x02}.")] * 2),
    }
    for name, content in cases.items():
        with pytest.raises(_core.CoreError):
            _core.read_torch(content)
            pytest.fail(name)


def test_a_bomb_takes_no_memory():
    # a tensor that claims 2^40 items over eight bytes, and a compressed entry
    import zipfile

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(200_000_000))
    tracemalloc.start()
    with pytest.raises(_core.CoreError) as error:
        _core.read_torch(buffer.getvalue())
    assert error.value.args[0] == "ZIP_COMPRESSED"
    assert tracemalloc.get_traced_memory()[1] < 64 << 20
    tracemalloc.stop()


def test_tensors_outside_their_storage_are_refused():
    good = saved({"a": torch.arange(300.0)})
    # the size 300 is BININT2 in the pickle: claim 301
    bad = good.replace(b"M\x2c\x01\x85", b"M\x2d\x01\x85")
    assert bad != good
    with pytest.raises(_core.CoreError):
        _core.read_torch(bad)


@pytest.mark.filterwarnings("ignore")  # torch calls sparse and quantized tensors beta
@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.eye(3).to_sparse(),
        lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
        lambda: torch.ones(3, dtype=torch.complex128),
        lambda: torch.empty(3, device="meta"),
    ],
    ids=["sparse", "quantized", "complex128", "meta"],
)
def test_tensors_without_an_mlx_form_are_refused_by_name(make, tmp_path):
    path = tmp_path / "a.pt"
    torch.save({"fine": torch.ones(2), "layer.odd": make()}, path)
    with pytest.raises(
        (CheckpointError, UnsupportedTensorError), match=r"layer\.odd|meta|complex128"
    ):
        convert(path, tmp_path / "x.safetensors")
    with pytest.raises((CheckpointError, UnsupportedTensorError), match=r"layer\.odd"):
        convert({"fine": torch.ones(2), "layer.odd": make()}, tmp_path / "x.safetensors")
