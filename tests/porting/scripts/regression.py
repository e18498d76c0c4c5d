"""A polynomial fitted by a single layer, stopping when it is close; weight decay by hand."""

from itertools import count

import numpy as np
import torch
import torch.nn.functional as F

POLY_DEGREE = 4
W_target = torch.tensor([[0.5], [-1.0], [0.25], [2.0]])
b_target = torch.tensor([0.75])


def make_features(x):
    """Builds features i.e. a matrix with columns [x, x^2, x^3, x^4]."""
    x = x.unsqueeze(1)
    return torch.cat([x**i for i in range(1, POLY_DEGREE + 1)], 1)


def f(x):
    """Approximated function."""
    return x.mm(W_target) + b_target.item()


def poly_desc(W, b):
    """Creates a string description of a polynomial."""
    result = "y = "
    for i, w in enumerate(W):
        result += "{:+.2f} x^{} ".format(w, i + 1)
    result += "{:+.2f}".format(b[0])
    return result


def get_batch(draw, batch_size=32):
    """Builds a batch i.e. (x, f(x)) pair."""
    random = torch.from_numpy(draw.randn(batch_size).astype(np.float32))
    x = make_features(random)
    y = f(x)
    return x, y


def build():
    return torch.nn.Linear(W_target.size(0), 1)


def run(fc):
    optimizer = torch.optim.SGD(fc.parameters(), lr=0.01)
    draw = np.random.RandomState(0)
    history = []
    for batch_idx in count(1):
        batch_x, batch_y = get_batch(draw)
        optimizer.zero_grad()
        output = F.smooth_l1_loss(fc(batch_x), batch_y)
        penalty = 1e-3 * sum(p.pow(2.0).sum() for p in fc.parameters())
        loss = output + penalty
        loss.backward()
        optimizer.step()
        history.append(loss.item())
        if loss.item() < 1e-3 or batch_idx >= 40:
            break
    history.append(float(len(poly_desc(fc.weight.view(-1).detach(), fc.bias.detach()))))
    return history
