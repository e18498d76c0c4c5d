"""The executor: what it writes equals what numpy would, whatever the window and the threads."""

import os

import numpy as np
import pytest

from torch2mlx import _core


def tensor_of(array):
    return _core.from_buffer(array, array.dtype.name)


def written(path, arrays, dtypes, start=0, **options):
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        jobs = [(tensor_of(a), d) for a, d in zip(arrays, dtypes, strict=True)]
        _core.write(fd, start, jobs, **options)
    finally:
        os.close(fd)
    return path.read_bytes()[start:]


@pytest.mark.parametrize("span", [1, 7, 4096, 1 << 20])
@pytest.mark.parametrize("threads", [1, 3])
def test_bytes_do_not_depend_on_span_or_threads(tmp_path, span, threads):
    arrays = [
        np.random.randn(33, 17, 3, 3).astype(np.float32).transpose(0, 2, 3, 1),
        np.random.randint(-9, 9, (5, 40)).astype(np.int64).T,
        np.zeros((0, 3), np.float32),
        np.float64(3.5),
        np.random.randn(1000).astype(np.float32)[::-2],
    ]
    arrays = [np.asarray(a) for a in arrays]
    dtypes = ["float32", "int64", "float32", "float64", "float16"]
    expected = b"".join(a.astype(d).tobytes() for a, d in zip(arrays, dtypes, strict=True))
    found = written(tmp_path / "f", arrays, dtypes, 13, span=span, threads=threads)
    assert found == expected


INFINITE = {"float16": 65520.0, "bfloat16": 3.4e38, "float32": 3.41e38}


@pytest.mark.parametrize("dtype", INFINITE)
@pytest.mark.parametrize("simd", [True, False])
@pytest.mark.parametrize("place", [0, 13, 9000, 19_999])
def test_it_returns_which_tensors_hold_what_their_dtype_cannot(tmp_path, dtype, simd, place):
    wide = np.float64 if dtype == "float32" else np.float32
    fine, lost = np.full((2, 20_000), 3, wide)
    lost[place] = -INFINITE[dtype]
    fine[place], fine[0] = np.nextafter(wide(INFINITE[dtype]), wide(0)) * 0.99, np.inf
    arrays = [fine, lost, lost.reshape(100, 200).T, np.full(5, np.nan, wide), lost[:0]]
    fd = os.open(tmp_path / "f", os.O_RDWR | os.O_CREAT, 0o600)
    jobs = [(tensor_of(a), dtype) for a in arrays] + [(tensor_of(lost), wide.__name__)]
    assert _core.write(fd, 0, jobs, simd=simd) == [1, 2]
    os.close(fd)


def test_a_mapped_source_is_copied_by_the_system(tmp_path):
    data = np.random.randn(1 << 18).astype(np.float32)
    (tmp_path / "source").write_bytes(b"head" * 16 + data.tobytes())
    mapping = _core.Mapping(str(tmp_path / "source"))
    view = memoryview(mapping)[64:]
    tensor = _core.from_buffer(np.frombuffer(view, np.float32), "float32")
    fd = os.open(tmp_path / "out", os.O_RDWR | os.O_CREAT, 0o600)
    _core.write(fd, 0, [(tensor, "float32")])
    os.close(fd)
    assert (tmp_path / "out").read_bytes() == data.tobytes()


def test_progress_counts_every_byte_and_can_stop(tmp_path):
    arrays = [np.random.randn(1 << 20).astype(np.float32)] * 4
    seen = []
    written(tmp_path / "a", arrays, ["float32"] * 4, progress=seen.append)
    assert seen == sorted(seen) and seen[-1] == 4 * (4 << 20)

    def stop(done):
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        written(tmp_path / "b", arrays, ["float32"] * 4, progress=stop)


def test_a_closed_descriptor_is_an_os_error(tmp_path):
    fd = os.open(tmp_path / "x", os.O_RDONLY | os.O_CREAT)
    with pytest.raises(OSError):
        _core.write(fd, 0, [(tensor_of(np.ones(3)), "float64")])
    os.close(fd)


def test_a_cast_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(_core.CoreError):
        written(tmp_path / "x", [np.ones(3, np.complex64)], ["float32"])
