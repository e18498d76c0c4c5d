"""Transforms against torch's arithmetic, idx files, and what is broken in them."""

import gzip
import struct

import numpy as np
import pytest

from tests.support import need

need("torch", "mlx.core")

import mlx.core as mx
import torch
import torch.nn.functional as F

from torch2mlx.kit import vision


@pytest.fixture
def picture():
    return np.random.RandomState(0).randint(0, 256, (9, 12, 3)).astype(np.uint8)


def test_to_tensor_and_normalize(picture):
    steps = vision.Compose([vision.ToTensor(), vision.Normalize((0.5, 0.4, 0.3), (0.2, 0.2, 0.1))])
    x = torch.from_numpy(picture).permute(2, 0, 1).float() / 255
    mean, std = (torch.tensor(v)[:, None, None] for v in ((0.5, 0.4, 0.3), (0.2, 0.2, 0.1)))
    np.testing.assert_allclose(steps(picture), ((x - mean) / std).numpy(), atol=1e-6)
    assert vision.ToTensor()(picture[..., 0]).shape == (1, 9, 12)


def test_sizes(picture):
    x = vision.ToTensor()(picture)
    small = F.interpolate(
        torch.from_numpy(np.array(x))[None], (6, 8), mode="bilinear", antialias=True
    )
    np.testing.assert_allclose(vision.Resize(6)(x), small[0].numpy(), atol=1e-5)
    assert vision.CenterCrop(4)(x).shape == (3, 4, 4)
    np.testing.assert_array_equal(vision.CenterCrop((9, 4))(x), np.array(x)[:, :, 4:8])
    np.random.seed(0)
    assert vision.RandomCrop(8, padding=2)(x).shape == (3, 8, 8)
    assert vision.RandomCrop(8, padding=2)(picture).shape == (8, 8, 3)
    turned = vision.RandomHorizontalFlip(p=1.0)
    np.testing.assert_array_equal(turned(x), np.array(x)[..., ::-1])
    np.testing.assert_array_equal(turned(picture), picture[:, ::-1])
    assert vision.Lambda(lambda v: v + 1)(1) == 2


def idx(array):
    header = bytes([0, 0, 8, array.ndim]) + b"".join(struct.pack(">I", n) for n in array.shape)
    return header + array.tobytes()


def test_mnist_reads_local_files(tmp_path):
    images = np.random.RandomState(0).randint(0, 256, (5, 4, 4)).astype(np.uint8)
    labels = np.arange(5, dtype=np.uint8)
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    (folder / "train-images-idx3-ubyte").write_bytes(idx(images))
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    dataset = vision.MNIST(tmp_path, train=True, transform=vision.ToTensor())
    image, label = dataset[3]
    assert (len(dataset), label) == (5, 3)
    np.testing.assert_allclose(image, images[3][None] / 255, atol=1e-6)
    assert isinstance(image, mx.array)
    with pytest.raises(FileNotFoundError, match="t10k-images"):
        vision.MNIST(tmp_path, train=False)
    (folder / "train-images-idx3-ubyte").write_bytes(idx(images)[:-3])
    with pytest.raises(ValueError, match="its header says"):
        vision.MNIST(tmp_path)
    (folder / "train-images-idx3-ubyte").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="no idx file"):
        vision.MNIST(tmp_path)
