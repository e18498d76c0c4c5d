"""Pictures in files: datasets of torchvision from local folders, and grids of pictures written.

Nothing is fetched. Pillow is imported where pictures are decoded or encoded.
"""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from torch2mlx.kit.data import Dataset

_SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
#: What the files of CIFAR are pickled with; anything else is refused.
_PICKLED = {("_codecs", "encode"), ("numpy", "ndarray"), ("numpy", "dtype")}
_PICKLED |= {(f"numpy.{c}.multiarray", "_reconstruct") for c in ("core", "_core")}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _PICKLED:
            raise ValueError(f"the file asks for {module}.{name}: it is none of CIFAR's")
        return super().find_class(module, name)


class Pictures(Dataset):
    """Pictures (H, W, C) of bytes and their classes."""

    transform: Callable[[Any], Any] | None
    target_transform: Callable[[Any], Any] | None

    def answer(self, image: Any, target: int) -> tuple[Any, Any]:
        """Both as the transforms leave them."""
        image = self.transform(image) if self.transform is not None else image
        return image, self.target_transform(target) if self.target_transform else target


class CIFAR10(Pictures):
    """torchvision.datasets.CIFAR10, from `root/cifar-10-batches-py` (the "python version").

    Raises FileNotFoundError: nothing is fetched; ValueError for files that hold anything else than
    CIFAR's arrays.
    """

    folder, label = "cifar-10-batches-py", "labels"
    parts = (tuple(f"data_batch_{i}" for i in range(1, 6)), ("test_batch",))

    def __init__(
        self,
        root: Any,
        train: bool = True,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
        download: bool = False,
    ) -> None:
        batches = [self._read(Path(root), name) for name in self.parts[0 if train else 1]]
        rows = np.concatenate([np.asarray(b["data"], np.uint8) for b in batches])
        self.data = rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        self.targets = [int(label) for b in batches for label in b[self.label]]
        self.transform, self.target_transform = transform, target_transform

    def _read(self, root: Path, name: str) -> dict[str, Any]:
        path = root / self.folder / name
        if not path.is_file():
            raise FileNotFoundError(f"{path}: missing; unpack it there, nothing is fetched")
        found = _Unpickler(io.BytesIO(path.read_bytes()), encoding="latin1").load()
        if not isinstance(found, dict) or not {"data", self.label} <= set(found):
            raise ValueError(f"{path}: is no batch of {type(self).__name__}")
        return found

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self.answer(self.data[index], self.targets[index])


class CIFAR100(CIFAR10):
    """torchvision.datasets.CIFAR100, from `root/cifar-100-python`: the fine classes."""

    folder, label = "cifar-100-python", "fine_labels"
    parts = (("train",), ("test",))


class ImageFolder(Pictures):
    """torchvision.datasets.ImageFolder: a folder for each class, classes in alphabetical order.

    Pictures come as arrays (H, W, 3) of bytes. Raises FileNotFoundError where there are no classes
    or a class has no pictures.
    """

    def __init__(
        self,
        root: Any,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
    ) -> None:
        folders = sorted(p for p in Path(root).iterdir() if p.is_dir())
        if not folders:
            raise FileNotFoundError(f"{root}: has no folders, one for each class")
        self.classes = [p.name for p in folders]
        self.class_to_idx = {name: i for i, name in enumerate(self.classes)}
        self.samples: list[tuple[str, int]] = []
        for i, folder in enumerate(folders):
            files = [p for p in folder.rglob("*") if p.suffix.lower() in _SUFFIXES]
            if not files:
                raise FileNotFoundError(f"{folder}: has no pictures")
            self.samples += [(str(p), i) for p in sorted(files)]
        self.imgs, self.targets = self.samples, [target for _, target in self.samples]
        self.transform, self.target_transform = transform, target_transform

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        from PIL import Image

        path, target = self.samples[index]
        with Image.open(path) as picture:
            return self.answer(np.asarray(picture.convert("RGB")), target)


def make_grid(
    tensor: Any,
    nrow: int = 8,
    padding: int = 2,
    normalize: bool = False,
    value_range: tuple[float, float] | None = None,
    scale_each: bool = False,
    pad_value: float = 0.0,
) -> mx.array:
    """torchvision.utils.make_grid: pictures (N, C, H, W), or a list of them, as one (3, H, W)."""
    x = mx.stack(list(tensor)) if isinstance(tensor, (list, tuple)) else tensor
    while x.ndim < 4:
        x = x[None]
    x = mx.broadcast_to(x, (x.shape[0], 3, *x.shape[2:])) if x.shape[1] == 1 else x
    if normalize:
        parts = [x[i : i + 1] for i in range(x.shape[0])] if scale_each else [x]
        x = mx.concatenate([_scaled(part, value_range) for part in parts])
    if x.shape[0] == 1:
        return x[0]
    across = min(nrow, x.shape[0])
    down = math.ceil(x.shape[0] / across)
    height, width = x.shape[2] + padding, x.shape[3] + padding
    shape = (x.shape[1], height * down + padding, width * across + padding)
    grid = mx.full(shape, pad_value, dtype=x.dtype)
    for i in range(x.shape[0]):
        top, left = i // across * height + padding, i % across * width + padding
        grid[:, top : top + x.shape[2], left : left + x.shape[3]] = x[i]
    return grid


def _scaled(x: mx.array, span: Sequence[float] | None) -> mx.array:
    low, high = (x.min(), x.max()) if span is None else span
    return (mx.clip(x, low, high) - low) / mx.maximum(mx.array(high) - mx.array(low), 1e-5)


def save_image(tensor: Any, fp: Any, format: str | None = None, **options: Any) -> None:
    """torchvision.utils.save_image: the grid of pictures with values from 0 to 1, in a file."""
    from PIL import Image

    grid = make_grid(tensor, **options)
    pixels = mx.clip(grid * 255 + 0.5, 0, 255).astype(mx.uint8).transpose(1, 2, 0)
    Image.fromarray(np.array(pixels)).save(fp, format=format)
