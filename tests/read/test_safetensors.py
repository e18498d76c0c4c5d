"""The safetensors reader on good, broken and hostile files."""

import struct

import numpy as np
import pytest

from tests.read.builders import BROKEN_SAFETENSORS, entry, safetensors, small_safetensors
from torch2mlx import _core, inspect
from torch2mlx.errors import CheckpointError
from torch2mlx.read.files import read_safetensors


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
    from tests.support import need

    (library,) = need("safetensors.numpy")
    from torch2mlx import convert

    state = {"a.weight": np.random.randn(3, 4).astype(np.float32), "b": np.arange(5)}
    convert(state, tmp_path / "x.safetensors")
    found = library.load_file(tmp_path / "x.safetensors")
    for key, value in state.items():
        np.testing.assert_array_equal(found[key], value, strict=True)


def test_hostile_files_take_little_memory(tmp_path):
    """Peak memory over all broken files, and over sizes that only claim to be large."""
    import subprocess
    import sys
    from pathlib import Path

    code = (
        "import resource, struct\n"
        "from tests.read.builders import BROKEN_SAFETENSORS, pickled\n"
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
    root = Path(__file__).parent.parent.parent
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert int(found.stdout) < 64 << 10  # KiB
