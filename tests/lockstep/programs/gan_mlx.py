"""Two networks with an optimizer each."""

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim

mx.random.seed(0)
real = mx.random.normal((40, 6))
G = nn.Sequential(
    nn.Linear(4, 12), nn.LeakyReLU(0.2), nn.BatchNorm(12), nn.Linear(12, 6), nn.Tanh()
)
D = nn.Sequential(nn.Linear(6, 12), nn.LeakyReLU(0.2), nn.Linear(12, 1))
opt_g = optim.Adam(2e-3, betas=[0.5, 0.999], bias_correction=True)
opt_d = optim.Adam(1e-3, betas=[0.5, 0.999], bias_correction=True)


def bce(logits, target):
    return nn.losses.binary_cross_entropy(logits, target, with_logits=True, reduction="mean")


def d_loss(x, fake):
    return bce(D(x), mx.ones((8, 1))) + bce(D(fake), mx.zeros((8, 1)))


def g_loss(noise):
    return bce(D(G(noise)), mx.ones((8, 1)))


d_step, g_step = nn.value_and_grad(D, d_loss), nn.value_and_grad(G, g_loss)
for step in range(5):
    x = real[step * 8 : step * 8 + 8]
    noise = mx.random.normal((8, 4))
    fake = G(noise)
    loss_d, grads = d_step(x, fake)
    opt_d.update(D, grads)
    loss_g, grads = g_step(mx.random.normal((8, 4)))
    opt_g.update(G, grads)
    mx.eval(G.parameters(), D.parameters(), opt_g.state, opt_d.state)
