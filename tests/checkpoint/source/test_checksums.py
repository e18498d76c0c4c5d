"""CRC-32: the function against zlib's, and the storages of a .pt against their checksums."""

import subprocess
import sys
import zlib

import numpy as np
import pytest

from tests.support import need
from torch2mlx import _core, convert, inspect, load_converted
from torch2mlx.cli import main
from torch2mlx.errors import CheckpointError

(torch,) = need("torch")

LENGTHS = [*range(40), 63, 64, 65, 79, 80, 81, 127, 128, 8191, 8192, 8193, 100_003]


@pytest.mark.parametrize("simd", [True, False])
def test_crc32_is_that_of_zlib(simd):
    data = np.random.default_rng(0).integers(0, 256, 100_016, np.uint8).tobytes()
    for length in LENGTHS:
        for start in (0, 1, 13):
            expected = zlib.crc32(data[start : start + length])
            assert _core.crc32(data, start, length, simd=simd) == expected
            half = _core.crc32(data, start, length // 2, simd=simd)
            rest = length - length // 2
            assert _core.crc32(data, start + length // 2, rest, half, simd) == expected


@pytest.mark.parametrize(("start", "length"), [(5, 0), (0, 5), (1, 2**64 - 1), (2**64 - 1, 1)])
def test_crc32_stays_in_its_buffer(start, length):
    with pytest.raises(ValueError, match="outside the buffer"):
        _core.crc32(b"abcd", start, length)


def damaged(path, state, value):
    """A file in which one byte of the storage that starts with `value` is flipped."""
    torch.save(state, path)
    content = bytearray(path.read_bytes())
    at = content.index(np.float32(value).tobytes() * 4)
    content[at + 7] ^= 0x10
    path.write_bytes(content)
    return path


STATE = {"good": torch.full((4, 4), 3.0), "bad.weight": torch.full((4, 4), 7.0)}


def test_a_flipped_byte_of_a_storage_is_an_error_that_names_the_tensor(tmp_path, capsys):
    path = damaged(tmp_path / "a.pt", STATE, 7.0)
    out = tmp_path / "b.safetensors"
    with pytest.raises(CheckpointError, match=r"a\.pt: byte \d+: the checksum of storage '1'.*bad"):
        convert(path, out)
    assert not out.exists()
    assert [t.key for t in inspect(path).tensors] == list(STATE)  # values are not read
    convert(path, out, verify=False)
    found = load_converted(out, framework="numpy")
    assert (found["good"] == 3).all() and (found["bad.weight"] != 7).sum() == 1
    assert main(["convert", str(path), str(tmp_path / "c.safetensors")]) == 1
    assert "--no-verify" in capsys.readouterr().err
    assert main(["convert", "--no-verify", str(path), str(tmp_path / "c.safetensors")]) == 0


def test_only_storages_that_are_read_are_compared(tmp_path):
    state = {"model": {"a.weight": torch.full((4, 4), 3.0)}, "ema": STATE}
    path = damaged(tmp_path / "a.pt", state, 7.0)
    convert(path, tmp_path / "b.safetensors", key="model")
    with pytest.raises(CheckpointError, match=r"'bad\.weight'"):
        convert(path, tmp_path / "c.safetensors", key="ema")


def test_views_and_folded_and_lazily_changed_tensors_are_compared_too(tmp_path):
    z = torch.complex(torch.full((4,), 7.0), torch.full((4,), 7.0))
    for state in (
        {"part": torch.full((4, 4), 7.0)[1:, ::2]},
        {"lazy": z.conj()},
        {"l.weight_g": torch.ones(4, 1), "l.weight_v": torch.full((4, 4), 7.0)},
    ):
        path = damaged(tmp_path / "a.pt", state, 7.0)
        with pytest.raises(CheckpointError, match="checksum"):
            rules = {"l": "Linear"} if "l.weight_g" in state else {}
            convert(path, tmp_path / "b.safetensors", rules=rules)


def test_shards_of_a_folder_are_compared(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    torch.save({"x": torch.ones(4)}, folder / "pytorch_model-00001-of-00002.bin")
    damaged(folder / "pytorch_model-00002-of-00002.bin", STATE, 7.0)
    with pytest.raises(CheckpointError, match=r"00002-of-00002\.bin: byte.*checksum"):
        convert(folder, tmp_path / "out")
    convert(folder, tmp_path / "out", verify=False)


def test_a_file_that_was_saved_without_checksums_is_read(tmp_path):
    path = tmp_path / "a.pt"
    was = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(STATE, path)
    finally:
        torch.serialization.set_crc32_options(was)
    convert(path, tmp_path / "b.safetensors")
    found = load_converted(tmp_path / "b.safetensors", framework="numpy")
    assert (found["good"] == 3).all() and (found["bad.weight"] == 7).all()
    torch.save(STATE, path)  # one checksum that says 0 is as wrong as any other
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\x01\x02", 0, content.rindex(b"/data.pkl"))
    local = content.index(b"PK\x03\x04")
    content[entry + 16 : entry + 20] = content[local + 14 : local + 18] = bytes(4)
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="checksum"):
        convert(path, tmp_path / "c.safetensors")


def test_a_file_is_not_held_in_memory_while_it_is_compared(tmp_path):
    code = """
import resource, sys
import numpy as np
from pathlib import Path
from torch2mlx import _core
from torch2mlx.common.checksums import Checksums

path = Path(sys.argv[1])
mapping = _core.Mapping(path)
address = np.frombuffer(mapping, np.uint8).ctypes.data
size = path.stat().st_size
tensor = _core.from_buffer(np.frombuffer(mapping, np.uint8), "uint8")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for crc in (0, int(sys.argv[2])):
    try:
        Checksums(path, mapping, [(address, 0, size, crc, "0")]).check("w", tensor)
    except ValueError:
        print("refused")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    path = tmp_path / "zeros"
    with path.open("wb") as file:
        file.truncate(400 << 20)
    expected = 0
    for _ in range(400):
        expected = zlib.crc32(bytes(1 << 20), expected)
    done = subprocess.run(
        [sys.executable, "-c", code, path, str(expected)], capture_output=True, text=True
    )
    refused, grown = done.stdout.split()
    assert refused == "refused" and int(grown) < 150, done.stderr
