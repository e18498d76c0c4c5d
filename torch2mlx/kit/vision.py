"""torchvision's basic transforms and its MNIST-like datasets, over numpy and MLX arrays.

Pictures are (C, H, W) arrays after `ToTensor`, as in torchvision, whose draws random ones draw.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from torch2mlx.kit.image_files import CIFAR10 as CIFAR10
from torch2mlx.kit.image_files import CIFAR100 as CIFAR100
from torch2mlx.kit.image_files import ImageFolder as ImageFolder
from torch2mlx.kit.image_files import Pictures
from torch2mlx.kit.image_files import make_grid as make_grid
from torch2mlx.kit.image_files import save_image as save_image
from torch2mlx.kit.resample import interpolate


class Compose:
    """Transforms one after the other."""

    def __init__(self, transforms: Sequence[Callable[[Any], Any]]) -> None:
        self.transforms = list(transforms)

    def __call__(self, image: Any) -> Any:
        for transform in self.transforms:
            image = transform(image)
        return image


class ToTensor:
    """A picture (H, W) or (H, W, C), uint8 from 0 to 255, as (C, H, W) float32 from 0 to 1."""

    def __call__(self, image: Any) -> mx.array:
        pixels = np.asarray(image)
        pixels = pixels[..., None] if pixels.ndim == 2 else pixels
        scale = 255.0 if pixels.dtype == np.uint8 else 1.0
        return mx.array(np.ascontiguousarray(pixels.transpose(2, 0, 1)).astype(np.float32) / scale)


class Normalize:
    """(x - mean) / std, by channel."""

    def __init__(self, mean: Sequence[float], std: Sequence[float], inplace: bool = False) -> None:
        self.mean, self.std = (mx.array(list(v)).reshape(-1, 1, 1) for v in (mean, std))

    def __call__(self, image: mx.array) -> mx.array:
        return (image - self.mean) / self.std


class Lambda:
    """A function of one's own."""

    def __init__(self, lambd: Callable[[Any], Any]) -> None:
        self.lambd = lambd

    def __call__(self, image: Any) -> Any:
        return self.lambd(image)


class RandomHorizontalFlip:
    """Turns a picture around, with probability p."""

    def __init__(self, p: float = 0.5) -> None:
        self.p = p

    def __call__(self, image: Any) -> Any:
        drawn: Any = mx.random.uniform(shape=(1,)).item()
        turned = drawn < self.p
        if isinstance(image, mx.array):
            return image[..., ::-1] if turned else image
        return np.asarray(image)[:, ::-1] if turned else image


def _pair(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[-1]))


def _cut(image: Any, top: int, left: int, height: int, width: int) -> Any:
    if isinstance(image, mx.array):
        return image[..., top : top + height, left : left + width]
    return np.asarray(image)[top : top + height, left : left + width]


def _lengths(image: Any) -> tuple[int, int]:
    in_mlx = isinstance(image, mx.array)
    height, width = image.shape[-2:] if in_mlx else np.asarray(image).shape[:2]
    return height, width


def _below(n: int) -> int:
    """A random number from 0 to n - 1."""
    drawn: Any = mx.random.randint(0, n, (1,)).item()
    return int(drawn)


class CenterCrop:
    """The middle of a picture."""

    def __init__(self, size: Any) -> None:
        self.size = _pair(size)

    def __call__(self, image: Any) -> Any:
        (h, w), (height, width) = self.size, _lengths(image)
        return _cut(image, round((height - h) / 2), round((width - w) / 2), h, w)


class RandomCrop:
    """A part of a picture; `padding` adds zeros around it first."""

    def __init__(self, size: Any, padding: int = 0) -> None:
        self.size, self.padding = _pair(size), padding

    def __call__(self, image: Any) -> Any:
        p = self.padding
        if p and isinstance(image, mx.array):
            image = mx.pad(image, [(0, 0)] * (image.ndim - 2) + [(p, p), (p, p)])
        elif p:
            pixels = np.asarray(image)
            image = np.pad(pixels, [(p, p), (p, p)] + [(0, 0)] * (pixels.ndim - 2))
        (h, w), (height, width) = self.size, _lengths(image)
        if (h, w) == (height, width):
            return image
        top, left = (_below(n + 1) for n in (height - h, width - w))
        return _cut(image, top, left, h, w)


#: Pillow's numbers of the filters that torchvision names.
_FILTERS = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "hamming": 5}


class Resize:
    """A picture in another size, as torchvision resizes it.

    Before `ToTensor`, an array (H, W) or (H, W, C) of bytes is resized by Pillow; after it, an
    array (C, H, W) by `kit.interpolate`, with antialiasing. `size`: (height, width), or the length
    of the shorter side. `interpolation`: a name ("bicubic"), or Pillow's number of a filter.

    Raises ValueError for a filter that arrays (C, H, W) have not, and for `max_size`.
    """

    def __init__(
        self,
        size: Any,
        interpolation: Any = "bilinear",
        max_size: int | None = None,
        antialias: bool = True,
    ) -> None:
        names = {number: name for name, number in _FILTERS.items()}
        self.size, self.antialias = size, antialias
        self.mode = names.get(interpolation, interpolation)
        if self.mode not in _FILTERS or max_size is not None:
            raise ValueError(f"interpolation={interpolation!r}, max_size={max_size!r}: unknown")

    def __call__(self, image: Any) -> Any:
        size = self._made_of(*_lengths(image))
        if not isinstance(image, mx.array):
            return _resized(np.asarray(image), size, _FILTERS[self.mode])
        if self.mode not in ("nearest", "bilinear", "bicubic"):
            raise ValueError(f"interpolation={self.mode!r}: pictures before ToTensor alone")
        options = {} if self.mode == "nearest" else {"antialias": self.antialias}
        made = interpolate(mx.moveaxis(image, 0, -1)[None], size, mode=self.mode, **options)
        return mx.moveaxis(made[0], -1, 0)

    def _made_of(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of what a picture becomes."""
        if not isinstance(self.size, int) and len(self.size) == 2:
            return _pair(self.size)
        short = self.size if isinstance(self.size, int) else int(self.size[0])
        if height <= width:
            return short, int(short * width / height)
        return int(short * height / width), short


def _resized(pixels: np.ndarray, size: tuple[int, int], number: int) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.fromarray(pixels).resize(size[::-1], Image.Resampling(number)))


class MNIST(Pictures):
    """Digits from the four idx files (gzipped or not) under `root` or `root/MNIST/raw`.

    Raises FileNotFoundError: nothing is fetched.
    """

    folder = "MNIST"

    def __init__(
        self,
        root: Any,
        train: bool = True,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
        download: bool = False,
    ) -> None:
        part = "train" if train else "t10k"
        self._pictures = self._read(Path(root), f"{part}-images-idx3-ubyte")
        self._classes = self._read(Path(root), f"{part}-labels-idx1-ubyte").astype(np.int64)
        self.transform, self.target_transform = transform, target_transform

    @property
    def data(self) -> mx.array:
        """All pictures as an array of bytes: torchvision has a tensor here."""
        return mx.array(self._pictures)

    @property
    def targets(self) -> mx.array:
        """All classes."""
        return mx.array(self._classes)

    train_data = test_data = data  # torchvision's older names
    train_labels = test_labels = targets

    def _read(self, root: Path, name: str) -> np.ndarray:
        for place in (root / self.folder / "raw", root / self.folder, root):
            for path in (place / name, place / f"{name}.gz"):
                if path.exists():
                    opened = gzip.open if path.suffix == ".gz" else open
                    with opened(path, "rb") as file:
                        return _idx(file.read(), path)
        raise FileNotFoundError(
            f"{root / self.folder / 'raw' / name}: missing; put the idx files there, "
            "nothing is fetched"
        )

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self.answer(self._pictures[index], int(self._classes[index]))


class FashionMNIST(MNIST):
    """Clothes in the format of MNIST."""

    folder = "FashionMNIST"


class KMNIST(MNIST):
    """Kuzushiji in the format of MNIST."""

    folder = "KMNIST"


def _idx(data: bytes, path: Path) -> np.ndarray:
    """An idx file of bytes: two zeros, 8, the number of axes, their lengths (big-endian), items."""
    if len(data) < 4 or data[:3] != b"\0\0\x08":
        raise ValueError(f"{path}: is no idx file of unsigned bytes")
    axes = data[3]
    shape = np.frombuffer(data, ">u4", axes, 4).astype(int) if len(data) >= 4 + 4 * axes else ()
    items = np.frombuffer(data, np.uint8, offset=4 + 4 * axes)
    if not len(shape) or items.size != int(np.prod(shape)):
        raise ValueError(f"{path}: has {items.size} items, its header says {tuple(shape)}")
    return items.reshape(tuple(shape))
