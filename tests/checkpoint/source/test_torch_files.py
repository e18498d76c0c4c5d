"""Files of torch.save: what torch writes is read exactly; what could run code is refused."""

import collections
import io
import os
import pickle
import shutil
import signal
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from tests.checkpoint.source.builders import pickled, zip_file
from tests.support import need, same_bits

(torch,) = need("torch")

from torch2mlx import _core, convert, inspect, revert
from torch2mlx.cli import main
from torch2mlx.errors import (
    AmbiguousCheckpointError,
    CheckpointError,
    ConversionError,
    UnsupportedTensorError,
)

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
def test_pickles_that_call_or_import_do_neither_and_are_refused_by_name(
    code, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.pt").write_bytes(pickled(code))
    found, _ = _core.read_torch(pickled(code))
    assert isinstance(found, _core.Foreign) and "." in found.name and found.offset > 0
    with pytest.raises(AmbiguousCheckpointError, match="no state dict"):
        convert("a.pt", "b.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]


MALFORMED = {
    "stack underflow": b"\x80\x02a.",
    "no mark": b"\x80\x02t.",
    "no stop": b"\x80\x02]",
    "memo out of range": b"\x80\x02h\x05.",
    "huge memo index": b"\x80\x02]r\xff\xff\xff\xff.",
    "huge string": b"\x80\x04\x8d" + struct.pack("<Q", 2**63) + b"x.",
    "huge bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"x.",
    "set item of a list": b"\x80\x02]K\x01K\x02s.",
    "append to a dict": b"\x80\x02}K\x01a.",
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


LEGACY = {"_use_new_zipfile_serialization": False}
Z = torch.complex(torch.randn(4, 3), torch.randn(4, 3))
SPECIAL = torch.tensor([0.0, -0.0, float("nan"), float("inf"), -1.5, 1e-45])
LAZY = {
    "conj": Z.conj(),
    "neg": Z.conj().imag,
    "both": torch._neg_view(Z.conj()),
    "transposed": Z.T.conj()[1:],
    "negated complex": torch._neg_view(Z),
    "expanded": Z[:1].conj().expand(5, 3),
    "0-d": Z.conj()[1, 2],
    "empty": Z.conj()[:0],
    "special": torch._neg_view(SPECIAL),
    **{
        f"neg {dtype}": torch._neg_view(draw(dtype, 3, 5))
        for dtype in DTYPES
        if not str(dtype).startswith(("torch.bool", "torch.float8", "torch.uint", "torch.complex"))
    },
    "neg uint8": torch._neg_view(draw(torch.uint8, 3, 5)),  # wraps around, as torch's does
}


@FORMS
@pytest.mark.parametrize("name", LAZY)
def test_lazily_negated_and_conjugated_tensors_are_resolved(name, tmp_path, options):
    value = LAZY[name]
    assert value.is_conj() or value.is_neg()
    (tmp_path / "a.pt").write_bytes(saved({"w": value}, **options))
    report = convert(tmp_path / "a.pt", tmp_path / "b.safetensors")
    found = revert(tmp_path / "b.safetensors")["w"]
    assert same_bits(found, value.resolve_conj().resolve_neg()), report


def test_what_torch_does_not_negate_is_refused_by_name(tmp_path):
    plain = saved({"layer.odd": torch.ones(3, dtype=torch.bool)})
    rebuilt = b"ccollections\nOrderedDict\n"
    assert plain.count(rebuilt) == 1
    # hooks, then metadata: what follows the hooks' dict in the arguments is {"neg": True}
    code = plain[plain.index(b"\x80\x02") : plain.index(b"PK\1\2")]
    at = code.index(b")R", code.index(rebuilt)) + 2
    at += 2 if code[at : at + 1] == b"q" else 0
    code = code[: code.index(b"s.", at) + 2]
    changed = code[:at] + b"}X\x03\0\0\0neg\x88s" + code[at:]
    (tmp_path / "a.pt").write_bytes(zip_file([("a/data.pkl", changed), ("a/data/0", b"\1\1\1")]))
    with pytest.raises(UnsupportedTensorError, match=r"'layer\.odd'.*lazily negated"):
        inspect(tmp_path / "a.pt")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("options", [{}, LEGACY], ids=["zip", "legacy"])
@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.eye(3).to_sparse(),
        lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
        lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint32),
        lambda: torch.ones(3, dtype=torch.complex128),
        lambda: torch.ones(3, dtype=torch.complex32),
        lambda: torch.empty(3, device="meta"),
        lambda: torch.nn.parameter.UninitializedParameter(),
        lambda: torch.ones(3).untyped_storage(),
    ],
)
def test_a_tensor_of_another_kind_refuses_itself_and_not_the_file(make, options, tmp_path):
    state = {"good": torch.arange(6.0).reshape(2, 3), "layer.odd": make(), "last": torch.ones(2)}
    path = tmp_path / "a.pt"
    path.write_bytes(saved(state, **options))
    with pytest.raises(UnsupportedTensorError, match=r"'layer\.odd'"):
        convert(path, tmp_path / "b.safetensors")
    nested = {"model": {"good": state["good"], "last": state["last"]}, "rest": [make()]}
    path.write_bytes(saved(nested, **options))
    convert(path, tmp_path / "b.safetensors", key="model")
    found = revert(tmp_path / "b.safetensors")
    assert all(torch.equal(found[key], value) for key, value in nested["model"].items())


def test_views_that_claim_more_than_there_is_are_written_when_asked_for(tmp_path, capsys):
    big = {"w": torch.ones(4, 4), "layer.wide": torch.arange(300.0).expand(80_000, 300)}
    path, out = tmp_path / "a.pt", tmp_path / "b.safetensors"
    path.write_bytes(saved(big))
    assert [t.nbytes for t in inspect(path).tensors] == [64, 96_000_000]
    match = r"a\.pt: tensor 'layer\.wide' claims 96,000,000 bytes.*stores 1,200 .*expand=True"
    with pytest.raises(ConversionError, match=match):
        convert(path, out)
    assert not out.exists()
    convert(path, out, expand=True)
    assert torch.equal(revert(out)["layer.wide"], big["layer.wide"])
    assert main(["convert", str(path), str(out)]) == 1
    assert "--expand" in capsys.readouterr().err
    assert main(["convert", "--expand", str(path), str(out)]) == 0


def test_many_small_views_of_one_storage_count_together(tmp_path):
    base = torch.arange(1000.0)
    views = {f"w{i}": base.expand(1000, 1000)[:, i:] for i in range(40)}
    (tmp_path / "a.pt").write_bytes(saved(views))
    with pytest.raises(ConversionError, match="claims"):
        convert(tmp_path / "a.pt", tmp_path / "b.safetensors")
    equal = {f"w{i}": base.expand(1000, 1000) for i in range(40)}  # written once
    (tmp_path / "a.pt").write_bytes(saved(equal))
    assert len(convert(tmp_path / "a.pt", tmp_path / "b.safetensors").ties) == 39


def test_small_views_and_turned_ties_need_no_asking(tmp_path):
    base = torch.randn(3000, 3000)
    state = {"w": base, "turned": base.T, "row": torch.ones(10).expand(1000, 10)}
    (tmp_path / "a.pt").write_bytes(saved(state))
    convert(tmp_path / "a.pt", tmp_path / "b.safetensors")
    found = revert(tmp_path / "b.safetensors")
    assert all(torch.equal(found[key], value) for key, value in state.items())


def pairs(keys):
    return b"(" + b"".join(key + b"N" for key in keys) + b"u"


MINUS = b"J\xff\xff\xff\xffq\0J\xfe\xff\xff\xffq\1"  # Python hashes -1 and -2 alike
COUNT = 1 << 14
COLLIDING = {
    "tuples": b"\x80\x02"
    + MINUS
    + b"}"
    + pairs(
        b"(" + b"".join(b"h" + bytes([i >> k & 1]) for k in range(14)) + b"t" for i in range(COUNT)
    ),
    "large integers": b"\x80\x02}"
    + pairs(b"\x8a\x0c" + (i * (2**61 - 1) + 5).to_bytes(12, "little") for i in range(1, COUNT)),
    "integers": b"\x80\x02}"
    + pairs(b"\x8a\x08" + (i << 40).to_bytes(8, "little") for i in range(COUNT)),
    "fractions": b"\x80\x02}" + pairs(b"G" + struct.pack(">d", i / 4096) for i in range(COUNT)),
    "not a number": b"\x80\x02}" + pairs(b"G" + struct.pack(">d", float("nan")) for _ in range(99)),
    "deep tuples": b"\x80\x02K\x01q\0"
    + b"".join(b"h%ch%c\x86q%c" % (i, i, i + 1) for i in range(60))
    + b"}"
    + pairs([b"h\x3c"]),
    "sets": b"\x80\x04"
    + MINUS
    + b"("
    + b"".join(
        b"(" + b"".join(b"h" + bytes([i >> k & 1]) for k in range(14)) + b"t" for i in range(COUNT)
    )
    + b"\x91",
    "deep lists": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999,
    "a cycle": b"\x80\x02]q\0h\0a",
}


@pytest.mark.parametrize("name", COLLIDING)
def test_keys_that_collide_and_containers_that_nest_cost_no_more_than_others(name):
    # quadratic or exponential, each of these would take minutes
    found, _ = _core.read_torch(pickled(COLLIDING[name] + b"."))
    assert len(found) in (COUNT, COUNT - 1, 99, 1)


def test_signals_are_heard_while_objects_are_made():
    code = pickled(b"\x80\x02(" + b"]" * 190_000 + b"l.")
    seen = []
    before = signal.signal(signal.SIGALRM, lambda *_: seen.append(sys.getallocatedblocks()))
    start = sys.getallocatedblocks()
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        found = _core.read_torch(code)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    made = sys.getallocatedblocks() - start
    assert len(found[0]) == 190_000
    # a handler ran when some of the lists were there and others were not
    assert any(start + made / 100 < blocks < start + made * 0.99 for blocks in seen)


def test_numbers_are_read_alike_in_a_country_that_writes_commas(tmp_path):
    made = ["localedef", "-i", "de_DE", "-f", "UTF-8", str(tmp_path / "de_DE.UTF-8")]
    if shutil.which("localedef") is None or subprocess.run(made, capture_output=True).returncode:
        pytest.skip("the system makes no locales")
    code = (
        "import locale\n"
        "from tests.checkpoint.source.builders import pickled\n"
        "from torch2mlx import _core\n"
        "locale.setlocale(locale.LC_ALL, 'de_DE.UTF-8')\n"
        "assert locale.str(1.5) == '1,5'\n"
        "print(_core.read_torch(pickled(b'F1.5\\n.'))[0])\n"
    )
    environment = {**os.environ, "LOCPATH": str(tmp_path)}
    root = Path(__file__).parents[3]
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True
    )
    assert found.stdout == "1.5\n", found.stderr
