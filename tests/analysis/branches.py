"""Models that read values of tensors; a comment on the line names the rule that has to be told.

`READS` have comments, `QUIET` have none: what Python knows without values is no finding.
"""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

LIMIT = 3


class Part(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.scale = nn.Parameter(torch.ones(4))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.blocks = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
        self.dropout, self.count, self.factor, self.none = 0.1, 2, 1.5, None
        self.flag, self.sizes, self.mode = True, [2, 3], "mean"


class Greater(Part):
    def forward(self, x):
        if x.mean() > 0:  # T2M104
            return x
        return -x


class Maximum(Part):
    def forward(self, x):
        if x.max() > 3:  # T2M104
            x = x / 2
        return x


class Named(Part):
    def forward(self, x):
        done = self.fc(x).sum() > LIMIT
        if done:  # T2M104
            return x
        return -x


class Norm(Part):
    def forward(self, x):
        while x.norm() > 1:  # T2M104
            x = x / 2
        return x


class Counted(Part):
    def forward(self, x):
        for _ in range(int(x.sum())):  # T2M103 T2M104
            x = x + 1
        return x


class CountedLater(Part):
    def forward(self, x):
        n = int(x.sum())  # T2M103
        for _ in range(n):  # T2M104
            x = x + 1
        return x


class Item(Part):
    def forward(self, x):
        total = x.sum().item()  # T2M103
        if total > 1:  # T2M104
            return x
        return -x


class Float(Part):
    def forward(self, x):
        return x * float(x.max())  # T2M103


class Bool(Part):
    def forward(self, x):
        return x if bool((x > 0).all()) else -x  # T2M103 T2M104


class Both(Part):
    def forward(self, x):
        if x.shape[0] > 1 and x.sum() > 0:  # T2M104
            return x
        return -x


class Either(Part):
    def forward(self, x, mask: Tensor | None = None):
        if mask is None or mask.all():  # T2M104
            return x
        return -x


class Negated(Part):
    def forward(self, x):
        if not torch.isfinite(x).all():  # T2M104
            raise ValueError("not finite")
        return x


class Ternary(Part):
    def forward(self, x):
        return x if torch.any(x) else -x  # T2M104


class Asserted(Part):
    def forward(self, x):
        assert (x > 0).all(), "positive"  # T2M104
        return x


class Comprehended(Part):
    def forward(self, x):
        return torch.stack([row for row in x if row.sum() > 0])  # T2M104


class Chained(Part):
    def forward(self, x):
        if 0 < x.sum() < 3:  # T2M104
            return x
        return -x


class AsValue(Part):
    def forward(self, x):
        y = x.sum() or x.mean()  # T2M104
        return x * y


class Tensorial(Part):
    def forward(self, x):
        if self.scale.sum():  # T2M104
            return x
        return -x


class Buffer(Part):
    def forward(self, x):
        if self.steps > 3:  # T2M104
            return x
        return -x


def halved(values, limit):
    if values.abs().max() > limit:  # T2M104
        return values / 2
    return values


class HelperFunction(Part):
    def forward(self, x):
        return halved(self.fc(x), 3)


class HelperMethod(Part):
    def forward(self, x):
        return self._step(self.fc(x))

    def _step(self, y):
        return self._deep(y) if self.flag else y

    def _deep(self, y):
        if y.sum() > 0:  # T2M104
            return y
        return -y


class StaticHelper(Part):
    def forward(self, x):
        return self.pick(x, 2)

    @staticmethod
    def pick(values, limit):
        return values if values.mean() > limit else -values  # T2M104


class Inner(nn.Module):
    def forward(self, h, gate):
        if gate > 0.5:  # T2M104
            return h
        return -h


class Given(Part):
    def __init__(self):
        super().__init__()
        self.inner = Inner()

    def forward(self, x):
        return self.inner(x, x.mean())


class Local(Part):
    def forward(self, x):
        def pick(y):
            return y if y.sum() > 0 else -y  # T2M104

        return pick(self.fc(x))


class Lambda(Part):
    def forward(self, x):
        pick = lambda y: y if y.sum() > 0 else -y  # T2M104
        return pick(x)


class Looped(Part):
    def forward(self, x):
        for block in self.blocks:
            x = block(x)
            if x.abs().max() > 10:  # T2M104
                break
        return x


class Parent(Part):
    def forward(self, x):
        return x if x.sum() > 0 else -x  # T2M104


class Super(Parent):
    def forward(self, x):
        return super().forward(self.fc(x))


class Bounds(Part):
    def forward(self, x):
        n = (x[0] > 0).sum()
        return x[:, :n]  # T2M103


class Indexed(Part):
    def forward(self, x):
        return self.blocks[x.sum().long()](x)  # T2M103


class Largest(Part):
    def forward(self, x):
        return max(x.sum(), x.mean()) * x  # T2M104


class AnyOf(Part):
    def forward(self, x):
        if any(row.sum() > 0 for row in x):  # T2M104
            return x
        return -x


class Rooted(Part):
    def forward(self, x):
        return x * math.sqrt(x.sum())  # T2M103


class Equal(Part):
    def forward(self, x):
        if torch.equal(x, -x):  # T2M104
            return x
        return -x


class Within(Part):
    def forward(self, x):
        if 3 in x:  # T2M103 T2M104
            return x
        return -x


class Keyword(Part):
    def forward(self, *, x):
        if x.sum() > 0:  # T2M104
            return x
        return -x


class Matched(Part):
    def forward(self, x):
        match x.argmax().item():  # T2M103 T2M104
            case 0:
                return x
            case _:
                return -x


class Listed(Part):
    def forward(self, x):
        for length in x.sum(1).tolist():  # T2M103
            x = x + length
        return x


class OfTorchScript(Part):
    def forward(self, x):
        if torch.jit.is_tracing() or x.sum() > 0:  # T2M104
            return x
        return -x


class Packed(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(4, 4, batch_first=True)

    def forward(self, x, lengths):
        packed = pack_padded_sequence(x, lengths, batch_first=True)  # T2M110
        out, _ = self.rnn(packed)
        return pad_packed_sequence(out, batch_first=True)[0]  # T2M110


class Chosen(Part):
    def forward(self, x):
        return x[x > 0]  # T2M110


class NotLowered(Part):
    def forward(self, x):
        return torch.narrow_copy(x, 0, 0, 1) * torch.combinations(x[0])[0, 0]  # T2M114


class NotLoweredMethod(Part):
    def forward(self, x):
        return x.igamma(x.abs())  # T2M101


READS = (
    *(Greater, Maximum, Named, Norm, Counted, CountedLater, Item, Float, Bool, Both, Either),
    *(Negated, Ternary, Asserted, Comprehended, Chained, AsValue, Tensorial, Buffer),
    *(HelperFunction, HelperMethod, StaticHelper, Given, Local, Lambda, Looped, Super, Bounds),
    *(
        Indexed,
        Largest,
        AnyOf,
        Rooted,
        Equal,
        Within,
        Keyword,
        Matched,
        Listed,
        OfTorchScript,
        Packed,
        Chosen,
    ),
    *(NotLowered, NotLoweredMethod),
)


class Shapes(Part):
    def forward(self, x):
        b, c = x.shape
        if x.shape[0] > 1 and x.size(1) % 2 == 0 and x.dim() == 2 and len(x) > 1:
            x = x + 1
        while c < 2:
            c = c + 1
        for i in range(b if b < 3 else 3):
            x = x + i
        assert x.numel() > 0 and x.ndim == 2 and x.shape == (b, c)
        return x * float(b) * int(c) * math.sqrt(x.size(-1))


class Nones(Part):
    def forward(self, x, mask=None, bias: Tensor | None = None, state: Tensor | None = None):
        if mask is not None:
            x = x + mask
        if bias is None and state is None:
            return x if self.none is None else x * self.none
        return x + (bias if bias is not None else 0)


class Flags(Part):
    def forward(self, x, use_cache=False, n=2, mode: str = "a", scale: float = 1.0):
        if use_cache or not self.flag or self.training or n > 1 or mode == "b" or scale > 2:
            x = x + 1
        if self.dropout > 0 and self.count > 1 and self.mode == "mean" and self.sizes:
            x = F.dropout(x, self.dropout, self.training)
        for i in range(self.count):
            x = x + i
        return x * self.factor if self.factor else x


class Types(Part):
    def forward(self, x, y=None):
        if isinstance(x, (list, tuple)):
            x = x[0]
        if isinstance(y, int):
            for _ in range(y):
                x = x + 1
        if isinstance(y, float) and y > 2:
            x = x * y
        if not isinstance(x, torch.Tensor):
            x = torch.tensor(x)
        if torch.is_tensor(y) and y.dtype == torch.long and y.requires_grad and y.is_cuda:
            x = x + y
        return x if hasattr(self, "fc") and callable(self.fc) else -x


class Lengths(Part):
    def forward(self, x):
        positions = torch.arange(x.size(1))
        chunks = x.chunk(2, dim=1)
        if len(chunks) > 1 and len(x.shape) == 2 and positions.shape[0] > 1:
            x = torch.cat(chunks, 1)
        out = []
        for row in x:
            out.append(row)
        for i, block in enumerate(self.blocks):
            x = block(x) if i < len(self.blocks) - 1 else x
        if out:
            x = torch.stack(out)
        return x


class SomeOutput(NamedTuple):
    hidden: Tensor
    extra: Tensor | None = None


@dataclass
class Config:
    layers: int = 2
    use_bias: bool = True
    names: tuple = ("a", "b")


class Configured(Part):
    def __init__(self):
        super().__init__()
        self.config = Config()

    def forward(self, x):
        if self.config.use_bias and self.config.layers > 1 and "a" in self.config.names:
            x = self.fc(x)
        out = SomeOutput(x)
        if out.extra is not None:
            x = x + out.extra
        return x


class Positions(nn.Module):
    def forward(self, length, offset=0):
        if length > 3 or offset:
            return torch.arange(length)
        return torch.zeros(length)


class Sized(Part):
    def __init__(self):
        super().__init__()
        self.positions = Positions()

    def forward(self, x):
        return x + self.positions(x.shape[1])


class Selected(Part):
    def forward(self, x):
        y = torch.where(x > 0, x, -x) * (x > 1)
        y = y.masked_fill(x < 0, 0.0)
        y[x > 0] = 1.0
        torch._check(x.shape[0] > 0)
        total = sum(block(x).mean() for block in self.blocks)
        return y + total + (x.max(dim=1).values == x.max()).float()[:, None]


class Traced(Part):
    def forward(self, x):
        if not torch.compiler.is_exporting() and x.sum() > 0:
            x = x + 1
        if torch.compiler.is_compiling() or torch.onnx.is_in_onnx_export():
            return x
        return operator.add(x, 1)


def checked(x):
    if torch.compiler.is_compiling():
        return x
    if x.sum() > 0:
        raise ValueError("negative")
    return x


class TracedHelper(Part):
    def forward(self, x):
        if not torch.compiler.is_compiling():
            assert x.sum() > 0
        return checked(x)


class Modes(Part):
    def forward(self, x):
        with torch.no_grad():
            y = self.fc(x)
        if torch.is_grad_enabled() and y.requires_grad:
            y = y.detach()
        if x.dtype in (torch.float16, torch.bfloat16) or x.device.type == "mps":
            y = y.float()
        state = {"y": y, "n": 2}
        if "y" in state and state.get("other") is None:
            y = state["y"]
        return y


class Kinds(Part):
    def forward(self, x, sizes: tuple[int, ...] = (1, 2), names: list[str] | None = None):
        if sizes[0] > 1 or (names and len(names) > 1):
            x = x + 1
        h, w = sizes
        return x * h if h > w else x


QUIET = (
    *(
        Shapes,
        Nones,
        Flags,
        Types,
        Lengths,
        Configured,
        Sized,
        Selected,
        Traced,
        TracedHelper,
        Modes,
        Kinds,
    ),
)
