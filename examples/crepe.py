"""CREPE, a convolutional pitch tracker, in plain MLX (the "tiny" size by default).

Parameter names are those of the PyTorch checkpoint, so converted weights load strictly.
"""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn

FRAME = 1024
SAMPLE_RATE = 16_000
CHANNELS = {"tiny": (128, 16, 16, 16, 32, 64), "full": (1024, 128, 128, 128, 256, 512)}
_BINS, _FIRST_CENT, _CENTS_PER_BIN = 360, 1997.3794084376191, 20


class Crepe(nn.Module):
    """frames: (N, 1024) of audio at 16 kHz -> probabilities of 360 pitches (N, 360)."""

    def __init__(self, size: str = "tiny") -> None:
        super().__init__()
        inputs = 1
        for i, outputs in enumerate(CHANNELS[size], start=1):
            kernel, stride = (512, 4) if i == 1 else (64, 1)
            self[f"conv{i}"] = nn.Conv2d(inputs, outputs, (kernel, 1), (stride, 1))
            self[f"conv{i}_BN"] = nn.BatchNorm(outputs, eps=0.0010000000474974513, momentum=0.0)
            inputs = outputs
        self.classifier = nn.Linear(4 * outputs, _BINS)
        self.eval()

    def __call__(self, frames: mx.array) -> mx.array:
        x = frames[:, :, None, None]
        for i in range(1, 7):
            x = mx.pad(x, [(0, 0), (254, 254) if i == 1 else (31, 32), (0, 0), (0, 0)])
            x = self[f"conv{i}_BN"](nn.relu(self[f"conv{i}"](x)))
            x = nn.MaxPool2d((2, 1), (2, 1))(x)
        return mx.sigmoid(self.classifier(x.reshape(x.shape[0], -1)))


def frames_of(audio: mx.array, hop: int = 160) -> mx.array:
    """Overlapping frames (N, 1024) of a signal, each shifted to mean 0 and variance 1."""
    padded = mx.pad(audio, FRAME // 2)
    starts = mx.arange(0, audio.size + 1, hop)
    frames = padded[starts[:, None] + mx.arange(FRAME)[None]]
    frames = frames - mx.mean(frames, axis=1, keepdims=True)
    deviation = mx.sqrt(mx.var(frames, axis=1, keepdims=True, ddof=1))
    return frames / mx.maximum(deviation, 1e-10)


def pitch(probabilities: mx.array) -> mx.array:
    """Frequencies in Hz (N,): the mean pitch of the nine bins around the likeliest."""
    bins = mx.arange(_BINS)
    best = mx.argmax(probabilities, axis=1, keepdims=True)
    near = mx.where(mx.abs(bins[None] - best) <= 4, probabilities, 0)
    cents = mx.sum(near * (_FIRST_CENT + _CENTS_PER_BIN * bins), axis=1) / mx.sum(near, axis=1)
    return 10 * 2 ** (cents / 1200)
