"""The safetensors reader on good, broken and hostile files."""

import json
import random
import struct

import numpy as np
import pytest

from tests.checkpoint.source import headers
from tests.checkpoint.source.builders import (
    BROKEN_SAFETENSORS,
    entry,
    safetensors,
    small_safetensors,
)
from tests.support import need
from torch2mlx import _core, analyze, convert, inspect, load_converted
from torch2mlx.checkpoint.source.files import read_safetensors
from torch2mlx.errors import (
    AlreadyConvertedError,
    CheckpointError,
    ConversionError,
    NotConvertedError,
    UnsupportedTensorError,
)


def test_names_order_values_and_metadata(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(small_safetensors())
    tensors, metadata = read_safetensors(path)
    assert list(tensors) == ["a", "b"]
    assert metadata == {"format": "pt"}
    expected = np.frombuffer(bytes(range(16)), np.float32).reshape(2, 2)
    np.testing.assert_array_equal(np.asarray(tensors["a"]), expected)
    np.testing.assert_array_equal(np.asarray(tensors["b"]), [16, 17, 18])


def test_tensors_are_borrowed_and_keep_the_file_open(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(small_safetensors())
    tensors, _ = read_safetensors(path)
    path.unlink()
    assert not np.asarray(tensors["b"]).flags.owndata
    assert np.asarray(tensors["b"])[2] == 18


@pytest.mark.parametrize("name", BROKEN_SAFETENSORS)
def test_broken_file_is_refused_with_its_reason(name):
    content, status = BROKEN_SAFETENSORS[name]
    with pytest.raises(_core.CoreError) as error:
        _core.read_safetensors(content)
    assert status in ("*", error.value.args[0])


def test_every_truncation_is_refused():
    whole = small_safetensors()
    for length in range(len(whole)):
        with pytest.raises(_core.CoreError):
            _core.read_safetensors(whole[:length])


def test_the_error_names_file_offset_and_tensor(tmp_path):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(safetensors({"layer.weight": entry("U8", [9], 0, 9)}, bytes(3)))
    with pytest.raises(CheckpointError, match=r"bad\.safetensors: byte \d+: .*layer\.weight"):
        inspect(path)


def test_empty_tensors_and_scalars():
    header = {"scalar": entry("I64", [], 0, 8), "empty": entry("F32", [0, 5], 8, 8)}
    tensors, _ = _core.read_safetensors(safetensors(header, struct.pack("<q", -7)))
    found = dict(tensors)
    assert np.asarray(found["scalar"]) == -7
    assert np.asarray(found["empty"]).shape == (0, 5)


def test_what_is_written_is_read_by_the_reference_library(tmp_path):
    (library,) = need("safetensors.numpy")
    state = {"a.weight": np.random.randn(3, 4).astype(np.float32), "b": np.arange(5)}
    convert(state, tmp_path / "x.safetensors")
    found = library.load_file(tmp_path / "x.safetensors")
    for key, value in state.items():
        np.testing.assert_array_equal(found[key], value, strict=True)


def test_what_the_library_of_the_format_reads_is_read_and_what_it_refuses_is_refused():
    need("safetensors")
    accepted = 0
    for content in headers.named():
        assert not headers.difference(content), content
        accepted += isinstance(headers.theirs(content), dict)
    assert accepted > 500


def test_mutated_headers_are_read_as_the_library_of_the_format_reads_them():
    need("safetensors")
    seeds, source, accepted = headers.named(), random.Random(1), 0
    seeds = [*seeds, *(s for s in seeds if isinstance(headers.theirs(s), dict))]
    for _ in range(10_000):
        content = headers.mutated(seeds, source)
        assert not headers.difference(content), content
        accepted += isinstance(headers.theirs(content), dict)
    assert accepted > 1_000


@pytest.mark.parametrize(
    "metadata",
    ["null", "{}", '{"a":"1","b":"","a":"2"}', '{"\\u00e9\\ud83d\\ude00":"\\u0000\\n"}'],
)
def test_metadata_is_what_the_library_of_the_format_finds(tmp_path, metadata):
    (library,) = need("safetensors")
    path = tmp_path / "a.safetensors"
    path.write_bytes(safetensors(f'{{"__metadata__":{metadata}}}'.encode()))
    with library.safe_open(path, "np") as file:
        assert read_safetensors(path)[1] == (file.metadata() or {})


@pytest.mark.parametrize("dtype", ["F8_E8M0", "F4", "F6_E2M3", "F8_E4M3FNUZ", "C128", "Q4_0"])
def test_a_dtype_that_mlx_lacks_refuses_the_tensor_and_not_the_file(tmp_path, dtype):
    path = tmp_path / "a.safetensors"
    size = {"F4": 4, "F6_E2M3": 6, "C128": 128}.get(dtype, 8)
    header = {"w": entry("F32", [2], 0, 8), "scale": entry(dtype, [2, 4], 8, 8 + size)}
    path.write_bytes(safetensors(header, bytes(8 + size)))
    listed = inspect(path)
    assert [(t.key, t.dtype, t.shape, t.nbytes) for t in listed.tensors] == [
        ("w", "float32", (2,), 8),
        ("scale", dtype, (2, 4), size),
    ]
    assert listed.nbytes == 8 + size
    assert dtype in str(listed)
    assert dtype in {t["dtype"] for t in json.loads(json.dumps(listed.to_dict()))["tensors"]}
    rules = {f.rule for f in analyze(path).findings}
    assert "T2M007" in rules
    refused = rf"a\.safetensors: tensor 'scale': dtype {dtype} .*; .*(cast|dequantize)"
    with pytest.raises(UnsupportedTensorError, match=refused):
        convert(path, tmp_path / "o.safetensors", rules={})
    with pytest.raises(UnsupportedTensorError, match=refused):
        read_safetensors(path)
    assert not (tmp_path / "o.safetensors").exists()


def test_a_shape_that_no_tensor_here_can_have_refuses_the_tensor_and_not_the_file(tmp_path):
    path = tmp_path / "a.safetensors"
    deep, vast = [1] * 17, [0, 2**64 - 1]
    header = {"w": entry("U8", [2], 0, 2), "deep": entry("U8", deep, 2, 3)}
    path.write_bytes(safetensors({**header, "vast": entry("F32", vast, 3, 3)}, bytes(3)))
    shapes = {t.key: (t.dtype, t.shape) for t in inspect(path).tensors}
    assert shapes["deep"] == ("uint8", (1,) * 17)
    assert shapes["vast"] == ("float32", (0, 2**64 - 1))
    with pytest.raises(
        UnsupportedTensorError, match=r"'deep': a tensor of 17 dimensions .* at most"
    ):
        convert(path, tmp_path / "o.safetensors", rules={})
    del header["deep"]
    path.write_bytes(safetensors({**header, "vast": entry("F32", vast, 2, 2)}, bytes(2)))
    with pytest.raises(UnsupportedTensorError, match="'vast': an empty tensor of this size"):
        convert(path, tmp_path / "o.safetensors", rules={})


def test_files_that_mlx_writes_are_read(tmp_path):
    (mx,) = need("mlx.core")
    plain, told = tmp_path / "plain.safetensors", tmp_path / "told.safetensors"
    weight = np.arange(6, dtype=np.float32).reshape(2, 3)
    mx.save_safetensors(str(plain), {"w": mx.array(weight), "n": mx.array(3)})
    assert b'"__metadata__":null' in plain.read_bytes()
    mx.save_safetensors(str(told), {"w": mx.array(weight)}, {"format": "mlx"})
    assert {t.key: t.shape for t in inspect(plain).tensors} == {"w": (2, 3), "n": ()}
    convert(plain, tmp_path / "o.safetensors", rules={})
    found = load_converted(tmp_path / "o.safetensors", framework="numpy")
    np.testing.assert_array_equal(found["w"], weight)
    assert inspect(told).layout == "mlx"
    with pytest.raises(AlreadyConvertedError, match="MLX layout already"):
        convert(told, tmp_path / "o.safetensors", rules={})
    with pytest.raises(NotConvertedError):
        load_converted(plain)


def test_a_dimension_that_mlx_cannot_count_is_refused(tmp_path):
    out = tmp_path / "o.safetensors"
    for shape in ((2**31, 0), (0, 2**32)):
        with pytest.raises(UnsupportedTensorError, match=rf"'w': .* none of {max(shape)}"):
            convert({"w": np.zeros(shape, np.float32)}, out, rules={})
    assert list(tmp_path.iterdir()) == []
    convert({"w": np.zeros((2**31 - 1, 0), np.float32)}, out, rules={})


def converted_with(tmp_path, old, new):
    """A converted file with a part of its header spelled otherwise; the length stays."""
    path = tmp_path / "o.safetensors"
    convert({"w": np.arange(4, dtype=np.float32).reshape(2, 2)}, path, rules={})
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    head, data = content[8 : 8 + length].rstrip(), content[8 + length :]
    assert old in head
    path.write_bytes(safetensors(head.replace(old, new), data))
    return path


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"dtype":"F32"', b'"dtype":{"F32":null}'),
        (b'{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}', b'["F32",[2,2],[0,16]]'),
        (b'"shape":[2,2]', b'"shape":[2,2],"x":17976931348623158.5e292'),
        (b'"w"', b'"\\u0077"'),
        (b'"shape":[2,2]', b'"shape":[4,1]'),
    ],
)
def test_a_spelling_that_mlx_does_not_read_is_loaded_all_the_same(tmp_path, old, new):
    need("mlx.core")
    path = converted_with(tmp_path, old, new)
    found = load_converted(path, framework="mlx")["w"]
    expected = load_converted(path, framework="numpy")["w"]
    np.testing.assert_array_equal(np.asarray(found), expected, strict=True)


def test_a_size_that_mlx_would_misread_is_refused_when_loaded(tmp_path):
    need("mlx.core")
    path = tmp_path / "o.safetensors"
    convert({"w": np.zeros((7, 0), np.float32)}, path, rules={})
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    path.write_bytes(
        safetensors(content[8 : 8 + length].replace(b'"shape":[7,', b'"shape":[4294967297,'))
    )
    assert load_converted(path, framework="numpy")["w"].shape == (2**32 + 1, 0)
    with pytest.raises(UnsupportedTensorError, match=r"o\.safetensors: tensor 'w': .* 4294967297"):
        load_converted(path, framework="mlx")


@pytest.mark.parametrize("name", ["__metadata__", "module.__metadata__"])
def test_a_tensor_called_as_the_metadata_is_refused_before_anything_is_written(tmp_path, name):
    out = tmp_path / "o.safetensors"
    state = {name: np.ones(3, np.float32)}
    if name.startswith("module."):
        state |= {"module.w": np.ones(2, np.float32)}
    with pytest.raises(ConversionError, match=rf"'{name}' .*'__metadata__'"):
        convert(state, out, rules={})
    assert list(tmp_path.iterdir()) == []


def test_a_torch_file_may_hold_a_tensor_called_as_the_metadata(tmp_path):
    (torch,) = need("torch")
    path = tmp_path / "a.pt"
    torch.save({"__metadata__": torch.ones(3), "w": torch.ones(2)}, path)
    assert [t.key for t in inspect(path).tensors] == ["__metadata__", "w"]
    with pytest.raises(ConversionError, match="__metadata__"):
        convert(path, tmp_path / "o.safetensors", rules={})
    assert [p.name for p in tmp_path.iterdir()] == ["a.pt"]


def test_the_core_writes_no_header_with_such_a_tensor():
    with pytest.raises(_core.CoreError) as error:
        _core.safetensors_header([("__metadata__", "uint8", (1,))], {})
    assert error.value.args[0] == "ST_NAME"


def test_hostile_files_take_little_memory(tmp_path):
    """Peak memory over all broken files, and over sizes that only claim to be large."""
    import subprocess
    import sys
    from pathlib import Path

    code = (
        "import resource, struct\n"
        "from tests.checkpoint.source.builders import BROKEN_SAFETENSORS, pickled\n"
        "from torch2mlx import _core\n"
        "files = [content for content, _ in BROKEN_SAFETENSORS.values()]\n"
        "code = b'\\x80\\x02]' + b'(' * 1000 + b'\\x8e' + struct.pack('<Q', 2**40)\n"
        "many = b'\\x80\\x02' + b'K\\x01' * 2_000_000 + b'.'\n"
        "files += [pickled(code), pickled(b'\\x80\\x02](' + b'N' * 500_000 + b'e.')]\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for content in files + [pickled(many)]:\n"
        "    for read in (_core.read_safetensors, _core.read_torch):\n"
        "        try: read(content)\n"
        "        except _core.CoreError: pass\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    root = Path(__file__).parents[3]
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert int(found.stdout) < 64 << 10  # KiB
