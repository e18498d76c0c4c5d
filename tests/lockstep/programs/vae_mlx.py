"""The autoencoder; MLX's Adam has no weight decay, so it is added to the gradients."""

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from mlx.utils import tree_map

mx.random.seed(0)
data = mx.random.uniform(shape=(48, 12))


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc = nn.Linear(12, 16)
        self.mu = nn.Linear(16, 3)
        self.logvar = nn.Linear(16, 3)
        self.dec1 = nn.Linear(3, 16)
        self.dec2 = nn.Linear(16, 12)

    def __call__(self, x):
        h = nn.relu(self.enc(x))
        mu, logvar = self.mu(h), self.logvar(h)
        z = mu + mx.random.normal(mu.shape) * mx.exp(0.5 * logvar)
        return mx.sigmoid(self.dec2(nn.relu(self.dec1(z)))), mu, logvar


def loss_fn(params, x):
    vae.update(params)
    recon, mu, logvar = vae(x)
    bce = -mx.sum(x * mx.log(recon) + (1 - x) * mx.log(1 - recon))
    kld = -0.5 * mx.sum(1 + logvar - mu**2 - mx.exp(logvar))
    return bce + kld


vae = VAE()
optimizer = optim.Adam(learning_rate=3e-3, bias_correction=True)
grad_fn = mx.value_and_grad(loss_fn)
for _epoch in range(3):
    for i in range(0, 48, 16):
        x = data[i : i + 16]
        loss, grads = grad_fn(vae.trainable_parameters(), x)
        grads = tree_map(lambda g, p: g + 1e-3 * p, grads, vae.trainable_parameters())
        vae.update(optimizer.apply_gradients(grads, vae))
        mx.eval(vae.parameters(), optimizer.state)
