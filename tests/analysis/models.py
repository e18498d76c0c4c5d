"""Small models, each with the findings that are right for it: (rule, part of what it says)."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import linalg, nn

SIDE = None


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        return self.fc(x)


class Functional(Plain):
    def forward(self, x):
        x = F.relu(self.fc(x)) + torch.cat([x, x], dim=0)[:1]
        x[0] = 1.0
        x += 2
        return F.softmax(x, dim=-1).view(-1)


class HostRead(Plain):
    def forward(self, x):
        return self.fc(x) * x.sum().item()


class ToList(Plain):
    def forward(self, x):
        return [self.fc(x)] * len(x.tolist())


class Branch(Plain):
    def forward(self, x):
        if (x > 0).any():
            return self.fc(x)
        return x


class Loop(Plain):
    def forward(self, x):
        while torch.all(x > 0):
            x = self.fc(x)
        return x


class ShapeBranch(Plain):
    def forward(self, x):
        if x.shape[0] > 1 and self.training:
            return self.fc(x)
        return x if x is not None else SIDE


class Device(Plain):
    def forward(self, x):
        return self.fc(x.cuda())


class ToDevice(Plain):
    def forward(self, x):
        return self.fc(x.to(self.fc.weight.device))


class ToDtype(Plain):
    def forward(self, x):
        return self.fc(x.to(torch.float32)).to(dtype=x.dtype)


class CudaCall(Plain):
    def forward(self, x):
        torch.cuda.synchronize()
        return self.fc(x)


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * x


class CustomAutograd(Plain):
    def forward(self, x):
        return Square.apply(self.fc(x))


class Printing(Plain):
    def forward(self, x):
        print(x.shape)
        return self.fc(x)


class Numpy(Plain):
    def forward(self, x):
        return self.fc(torch.from_numpy(np.abs(x.numpy())))


class InPlace(Plain):
    def forward(self, x):
        return self.fc(x).add_(1).clamp_(0, 1)


class Masked(Plain):
    def forward(self, x):
        return self.fc(x), torch.nonzero(x), x.masked_select(x > 0)


class Random(Plain):
    def forward(self, x):
        return self.fc(x) + torch.randn_like(x)


class Missing(Plain):
    def forward(self, x):
        return torch.igamma(self.fc(x), x.abs())


class Unknown(Plain):
    def forward(self, x):
        return torch.frexp(self.fc(x))


class Wide(Plain):
    def forward(self, x):
        if x.dtype == torch.float64 or x.dtype in (torch.float64, torch.float32):
            x = x * 2
        positions = torch.arange(4, dtype=torch.float64)
        return self.fc(x) * positions.float() + x.double().float()


class Linalg(Plain):
    def forward(self, x):
        return linalg.norm(self.fc(x)) + torch.linalg.inv(x)


class Helper(Plain):
    def forward(self, x):
        return self.step(x)

    def step(self, x):
        return self.fc(x).sum().item()

    def unused(self, x):
        return x.tolist()


class Nested(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.ModuleList([HostRead(), HostRead()])

    def forward(self, x):
        for module in self.inner:
            x = module(x)
        return x


class Bare(Plain):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))
        self.register_buffer("cache", torch.ones(2), persistent=False)

    def forward(self, x):
        return self.fc(x) * self.scale


class Leaf(nn.Module):
    def forward(self, x):
        return F.gelu(x)


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 4)
        self.b = self.a

    def forward(self, x):
        return self.a(self.b(x))


def hooked():
    model = Plain()
    model.fc.register_forward_hook(lambda module, args, out: out)
    return model


Unregistered = type("Unregistered", (nn.Module,), {"__module__": "torch.nn.modules.made_up"})

CASES = {
    "plain": (Plain, []),
    "sequential": (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten()), []),
    "functional, item assignment and +=": (Functional, []),
    "weight_norm is no foreign hook": (
        lambda: nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)),
        [],
    ),
    "attention counts as one": (lambda: nn.TransformerEncoderLayer(4, 2, 8), []),
    "shape branches are static": (ShapeBranch, []),
    "casts are no devices": (ToDtype, []),
    "linalg": (Linalg, []),
    "float64": (Wide, [("T2M115", "torch.float64"), ("T2M115", ".double()")]),
    "item": (HostRead, [("T2M103", ".item()")]),
    "tolist": (ToList, [("T2M103", ".tolist()")]),
    "branch": (Branch, [("T2M104", ".any()")]),
    "while": (Loop, [("T2M104", "torch.all")]),
    "cuda()": (Device, [("T2M106", ".cuda()")]),
    "to(device)": (ToDevice, [("T2M106", ".to(device)")]),
    "torch.cuda": (CudaCall, [("T2M106", "torch.cuda.synchronize")]),
    "autograd.Function": (CustomAutograd, [("T2M105", "Square")]),
    "print": (Printing, [("T2M108", "print")]),
    "numpy": (Numpy, [("T2M107", "numpy.abs"), ("T2M107", ".numpy()"), ("T2M107", "from_numpy")]),
    "in place": (InPlace, [("T2M109", ".add_()"), ("T2M109", ".clamp_()")]),
    "data-dependent shapes": (Masked, [("T2M110", "nonzero"), ("T2M110", "masked_select")]),
    "random": (Random, [("T2M111", "randn_like")]),
    "missing": (Missing, [("T2M101", "igamma")]),
    "unknown": (Unknown, [("T2M102", "frexp")]),
    "a helper method": (Helper, [("T2M103", ".item()")]),
    "nested, counted once": (Nested, [("T2M103", ".item()")]),
    "bare parameters": (Bare, [("T2M003", ""), ("T2M009", "")]),
    "a leaf of its own": (lambda: nn.Sequential(Leaf()), [("T2M011", "")]),
    "kit": (lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1)), [("T2M002", "")]),
    "refused option": (
        lambda: nn.Sequential(nn.Embedding(3, 2, scale_grad_by_freq=True)),
        [("T2M010", "scale_grad_by_freq")],
    ),
    "written out": (
        lambda: nn.Sequential(nn.Embedding(3, 2, max_norm=1.0)),
        [("T2M014", "max_norm")],
    ),
    "no counterpart": (lambda: nn.Sequential(Unregistered()), [("T2M001", "")]),
    "lazy": (lambda: nn.Sequential(nn.LazyLinear(3)), [("T2M004", "")]),
    "hooks": (hooked, [("T2M005", "")]),
    "shared": (Shared, [("T2M006", "")]),
    "float64 weights": (lambda: Plain().double(), [("T2M008", "")]),
    "complex128": (lambda: Plain().to(torch.complex128), [("T2M007", "")]),
}
