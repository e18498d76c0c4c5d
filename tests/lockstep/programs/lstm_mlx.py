"""The recurrent language model, on MLX's own LSTM, RMSprop with eps where torch has it."""

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim

mx.random.seed(0)
text = mx.random.randint(0, 12, (4, 81))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(12, 10)
        self.embed.weight = mx.random.normal((12, 10))
        self.lstm = nn.LSTM(10, 14, bias=False)
        self.head = nn.Linear(14, 12)

    def __call__(self, x, hidden=None, cell=None):
        hidden, cell = self.lstm(self.embed(x), hidden, cell)
        return self.head(hidden), hidden[:, -1], cell[:, -1]


def loss_fn(model, x, y, hidden, cell):
    logits, hidden, cell = model(x, hidden, cell)
    return nn.losses.cross_entropy(logits, y, reduction="mean"), hidden, cell


model = Model()
optimizer = optim.RMSprop(learning_rate=2e-3, alpha=0.95, eps=1e-6)
step = nn.value_and_grad(model, loss_fn)
hidden = cell = None
for i in range(0, 80, 8):
    x, y = text[:, i : i + 8], text[:, i + 1 : i + 9]
    (loss, hidden, cell), grads = step(model, x, y, hidden, cell)
    grads, norm = optim.clip_grad_norm(grads, 0.1)
    optimizer.update(model, grads)
    mx.eval(model.parameters(), optimizer.state, hidden, cell)
