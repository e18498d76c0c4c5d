"""Tagger in MLX, translated from tests.export.models."""

import mlx.nn as nn
from torch2mlx import kit


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(30, 8)
        self.lstm = kit.LSTM(8, 6, batch_first=True, bidirectional=True)
        self.score = nn.Linear(12, 4)

    def __call__(self, ids):
        part_0, part_1 = self.lstm(self.words(ids))
        log_softmax = nn.log_softmax(self.score(part_0), axis=-1)
        return {"scores": log_softmax, "last": part_1[0]}


def load(folder):
    """The model with the weights in a folder."""
    model = Tagger()
    model.load_weights(f"{folder}/weights.safetensors")
    model.train(False)
    return model
