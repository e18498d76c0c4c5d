"""Transforms against torch's arithmetic, idx files, and what is broken in them."""

import gzip
import pickle
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
    assert vision.RandomCrop(8, padding=2)(x).shape == (3, 8, 8)
    assert vision.RandomCrop(8, padding=2)(picture).shape == (8, 8, 3)
    turned = vision.RandomHorizontalFlip(p=1.0)
    np.testing.assert_array_equal(turned(x), np.array(x)[..., ::-1])
    np.testing.assert_array_equal(turned(picture), picture[:, ::-1])
    np.testing.assert_array_equal(vision.RandomCrop((9, 12))(picture), picture)
    assert vision.Lambda(lambda v: v + 1)(1) == 2


@pytest.mark.parametrize("size", [(5, 7), (20, 31), 6, [6], 17])
def test_pictures_are_resized_before_to_tensor_as_pillow_does(picture, size):
    """A size that is one number is the shorter side's; filters have names, and Pillow's numbers."""
    Image = need("PIL.Image")[0]
    short = size if isinstance(size, int) else size[0]
    height, width = size if size in ((5, 7), (20, 31)) else (short, int(short * 12 / 9))
    numbers = {"nearest": 0, "bilinear": 2, "bicubic": 3, "lanczos": 1}
    for pixels in (picture, picture[..., 0]):
        for name, number in numbers.items():
            expected = np.asarray(Image.fromarray(pixels).resize((width, height), number))
            for mode in (name, number):
                np.testing.assert_array_equal(vision.Resize(size, mode)(pixels), expected)
    turned = vision.Resize(size)(picture.transpose(1, 0, 2))
    assert size in ((5, 7), (20, 31)) or turned.shape[:2] == (width, height)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic", "nearest"])
def test_arrays_are_resized_with_the_filter_that_was_asked_for(picture, mode):
    x = vision.ToTensor()(picture)
    options = {} if mode == "nearest" else {"antialias": True}
    expected = F.interpolate(torch.from_numpy(np.array(x))[None], (6, 17), mode=mode, **options)
    np.testing.assert_allclose(vision.Resize((6, 17), mode)(x), expected[0].numpy(), atol=1e-5)


def test_filters_that_there_are_not_are_refused(picture):
    with pytest.raises(ValueError, match="interpolation='area', max_size=None: unknown"):
        vision.Resize(4, "area")
    with pytest.raises(ValueError, match="interpolation='bilinear', max_size=9: unknown"):
        vision.Resize(4, max_size=9)
    with pytest.raises(ValueError, match="interpolation='lanczos': pictures before ToTensor"):
        vision.Resize(4, "lanczos")(vision.ToTensor()(picture))


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
    for held in (dataset.data, dataset.train_data):
        assert held.shape == images.shape
    assert mx.array_equal(dataset.test_labels, dataset.targets)
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


def test_grids(picture):
    """Three pictures in rows of two, two pixels around each, the last place empty."""
    images = np.random.RandomState(1).rand(3, 1, 4, 5).astype(np.float32) * 4 - 1
    grid = np.array(vision.make_grid(mx.array(images), nrow=2, pad_value=0.25))
    expected = np.full((3, 2 * 6 + 2, 2 * 7 + 2), 0.25, np.float32)
    expected[:, 2:6, 2:7], expected[:, 2:6, 9:14], expected[:, 8:12, 2:7] = images
    np.testing.assert_array_equal(grid, expected)
    whole = vision.make_grid(mx.array(images), nrow=2, padding=0, normalize=True)
    flat = (images - images.min()) / (images.max() - images.min())
    np.testing.assert_allclose(np.array(whole)[0, :4, :5], flat[0, 0], atol=1e-6)
    each = vision.make_grid(list(mx.array(images)), normalize=True, scale_each=True)
    np.testing.assert_allclose(np.array(each).max(), 1, atol=1e-6)
    single = vision.make_grid(mx.array(images[:1]), normalize=True, value_range=(0, 1))
    np.testing.assert_allclose(single[0], np.clip(images[0, 0], 0, 1), atol=1e-6)


def test_saved_pictures_are_read_as_folders(picture, tmp_path):
    need("PIL")
    for name in ("b_cats", "a_dogs"):
        (tmp_path / name).mkdir()
        x = vision.ToTensor()(picture)
        vision.save_image(x, tmp_path / name / "one.png")
    found = vision.ImageFolder(tmp_path, target_transform=lambda t: t + 10)
    assert (found.classes, len(found)) == (["a_dogs", "b_cats"], 2)
    image, target = found[1]
    assert target == 11
    np.testing.assert_array_equal(image, picture)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no pictures"):
        vision.ImageFolder(tmp_path)


def cifar(folder, content):
    place = folder / "cifar-10-batches-py"
    place.mkdir(exist_ok=True)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        (place / name).write_bytes(pickle.dumps(content, protocol=2))


def test_cifar(tmp_path):
    with pytest.raises(FileNotFoundError, match="data_batch_1"):
        vision.CIFAR10(tmp_path)
    rows = np.random.RandomState(0).randint(0, 256, (4, 3072)).astype(np.uint8)
    cifar(tmp_path, {"data": rows, "labels": [3, 1, 2, 9]})
    data = vision.CIFAR10(tmp_path, train=True, transform=vision.ToTensor())
    assert len(data) == 20 and len(vision.CIFAR10(tmp_path, train=False)) == 4
    image, target = data[7]
    assert target == 9
    np.testing.assert_allclose(image, rows[3].reshape(3, 32, 32) / 255, atol=1e-6)


class Evil:
    def __reduce__(self):
        return print, ("run",)


def test_pickles_of_others_are_refused(tmp_path, capsys):
    cifar(tmp_path, {"data": Evil(), "labels": [1]})
    with pytest.raises(ValueError, match="none of CIFAR's"):
        vision.CIFAR10(tmp_path)
    cifar(tmp_path, [1, 2])
    with pytest.raises(ValueError, match="no batch of CIFAR10"):
        vision.CIFAR10(tmp_path)
    assert capsys.readouterr().out == ""
