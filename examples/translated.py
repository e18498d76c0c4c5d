"""The two networks of the demo again, this time as source that torch2mlx writes itself."""

from __future__ import annotations

from pathlib import Path

import torch

from examples.reference import crepe_model
from torch2mlx import load, translate, verify


def _minilm(folder: Path) -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    from transformers import BertModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    model = BertModel.from_pretrained(folder, local_files_only=True).eval()
    ids = torch.randint(1000, 9000, (2, 12), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, 8:] = 0
    return model, {"input_ids": ids, "attention_mask": mask}


def translated(minilm: Path, crepe: Path, work: Path) -> dict[str, float]:
    """Translates both, runs what was saved, and gives the largest differences."""
    model, given = _minilm(minilm)
    frames = torch.randn(3, 1024, generator=torch.Generator().manual_seed(0))
    tasks = (
        ("MiniLM, translated", model, given),
        ("CREPE tiny, translated", crepe_model(crepe, "tiny"), {"x": frames}),
        ("CREPE full, translated", crepe_model(crepe, "full"), {"x": frames}),
    )
    differences = {}
    for name, torch_model, inputs in tasks:
        translation = translate(torch_model, (), inputs)
        folder = translation.save(work / name.replace(" ", "_").replace(",", ""))
        found = verify(torch_model, load(folder), (), inputs)
        lines = translation.source.count("\n")
        print(f"\n{name}: {lines} lines of MLX source, {found.difference:.1e} from PyTorch")
        differences[name] = found.difference
    print("\n".join(["", "the translated network, its last lines:", *_tail(translation.source)]))
    return differences


def _tail(source: str) -> list[str]:
    body = source.split("\ndef load(")[0].rstrip().splitlines()
    return [f"    {line}" for line in body[-12:]]
