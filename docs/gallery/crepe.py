"""Crepe in MLX, translated from crepe_model."""

import mlx.core as mx
import mlx.nn as nn
from torch2mlx import kit


class Crepe(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 128, (512, 1), stride=(4, 1))
        self.conv1_BN = nn.BatchNorm(128, eps=0.0010000000474974513, momentum=0.0)
        self.conv2 = nn.Conv2d(128, 16, (64, 1))
        self.conv2_BN = nn.BatchNorm(16, eps=0.0010000000474974513, momentum=0.0)
        self.conv3 = nn.Conv2d(16, 16, (64, 1))
        self.conv3_BN = nn.BatchNorm(16, eps=0.0010000000474974513, momentum=0.0)
        self.conv4 = nn.Conv2d(16, 16, (64, 1))
        self.conv4_BN = nn.BatchNorm(16, eps=0.0010000000474974513, momentum=0.0)
        self.conv5 = nn.Conv2d(16, 32, (64, 1))
        self.conv5_BN = nn.BatchNorm(32, eps=0.0010000000474974513, momentum=0.0)
        self.conv6 = nn.Conv2d(32, 64, (64, 1))
        self.conv6_BN = nn.BatchNorm(64, eps=0.0010000000474974513, momentum=0.0)
        self.classifier = nn.Linear(256, 360)

    def __call__(self, x):
        conv1_BN = self.conv1_BN(
            nn.relu(
                self.conv1(
                    mx.pad(
                        x[:, None, :, None], [(0, 0), (0, 0), (254, 254), (0, 0)]
                    ).transpose(0, 2, 3, 1)
                )
            )
        )
        max_pool = kit.pooling.max_pool(
            self.conv2_BN(
                nn.relu(
                    self.conv2(
                        mx.pad(
                            kit.pooling.max_pool(conv1_BN, 2, (2, 1), (2, 1)),
                            [(0, 0), (31, 32), (0, 0), (0, 0)],
                        )
                    )
                )
            ),
            2,
            (2, 1),
            (2, 1),
        )
        x = mx.pad(
            kit.pooling.max_pool(
                self.conv3_BN(
                    nn.relu(self.conv3(mx.pad(max_pool, [(0, 0), (31, 32), (0, 0), (0, 0)])))
                ),
                2,
                (2, 1),
                (2, 1),
            ),
            [(0, 0), (31, 32), (0, 0), (0, 0)],
        )
        conv5 = self.conv5(
            mx.pad(
                kit.pooling.max_pool(self.conv4_BN(nn.relu(self.conv4(x))), 2, (2, 1), (2, 1)),
                [(0, 0), (31, 32), (0, 0), (0, 0)],
            )
        )
        relu = nn.relu(
            self.conv6(
                mx.pad(
                    kit.pooling.max_pool(self.conv5_BN(nn.relu(conv5)), 2, (2, 1), (2, 1)),
                    [(0, 0), (31, 32), (0, 0), (0, 0)],
                )
            )
        )
        x = kit.pooling.max_pool(
            self.conv6_BN(relu), 2, (2, 1), (2, 1)
        ).transpose(0, 1, 3, 2).reshape(-1, 256)
        return mx.sigmoid(self.classifier(x))


def load(folder):
    """The model with the weights in a folder."""
    model = Crepe()
    model.load_weights(f"{folder}/weights.safetensors")
    model.train(False)
    return model
