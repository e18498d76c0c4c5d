"""The classifier, its step compiled."""

from functools import partial

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim

mx.random.seed(1)
X = mx.random.normal((64, 10))
Y = mx.random.randint(0, 3, (64,))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(10, 16)
        self.drop = nn.Dropout(0.2)
        self.norm = nn.LayerNorm(16)
        self.fc2 = nn.Linear(16, 3)

    def __call__(self, x):
        return self.fc2(self.drop(nn.relu(self.norm(self.fc1(x)))))


model = Net()
opt = optim.Adam(learning_rate=1e-3, bias_correction=True)


def loss_fn(model, x, y):
    return nn.losses.cross_entropy(model(x), y, reduction="mean")


step = nn.value_and_grad(model, loss_fn)
state = [model.state, opt.state]


@partial(mx.compile, inputs=state, outputs=state)
def train(x, y):
    loss, grads = step(model, x, y)
    opt.update(model, grads)
    return loss


for _epoch in range(3):
    model.train()
    order = mx.random.permutation(64)
    for i in range(0, 64, 16):
        idx = order[i : i + 16]
        loss = train(X[idx], Y[idx])
        mx.eval(state)
    model.eval()
    print(loss_fn(model, X, Y).item())
