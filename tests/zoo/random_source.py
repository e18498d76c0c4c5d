"""Sources of random networks: statements over sequences and images, and loops over rows of layers.

Every network holds values of three kinds: sequences (batch, length, WIDTH), images (batch, WIDTH,
height, width) and vectors (batch, WIDTH). A statement makes a value of one kind out of values that
are there; a loop takes layers or blocks in a row, whose options, weights and turns may differ from
turn to turn. The same seed gives the same text.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field

WIDTH = 6
SEQUENCE, IMAGE, VECTOR = "sequence", "image", "vector"
#: What a network holds besides layers that map a value of a kind to another of it.
RECURRENT, ATTENTION, TABLE, SMALLER = "recurrent", "attention", "table", "smaller"
HEAD = """import torch
import torch.nn.functional as F
from torch import nn
"""
# {x} and {y} are values of the kind, {v} a vector, {n} a small number, {m} a layer made for it,
# {recurrent} and so on one of those
_LAYERS = {
    SEQUENCE: (
        "nn.Linear(6, 6)",
        "nn.Linear(6, 6, bias=False)",
        "nn.LayerNorm(6)",
        "nn.Sequential(nn.Linear(6, 12), nn.GELU(), nn.Linear(12, 6))",
        "nn.Identity()",
    ),
    RECURRENT: (
        "nn.LSTM(6, 6, batch_first=True)",
        "nn.GRU(6, 3, batch_first=True, bidirectional=True)",
        "nn.RNN(6, 6, 2, batch_first=True)",
    ),
    ATTENTION: (
        "nn.MultiheadAttention(6, 2, batch_first=True)",
        "nn.MultiheadAttention(6, 3, bias=False, batch_first=True)",
    ),
    TABLE: ("nn.Parameter(torch.randn(1, 64, 6))", "nn.Parameter(torch.ones(64, 6))"),
    SMALLER: (
        "nn.Conv2d(6, 6, 3, 2, 1)",
        "nn.MaxPool2d(2, ceil_mode=True)",
        "nn.AvgPool2d(3, 2, 1)",
        "nn.Sequential(nn.Conv2d(6, 6, 2, 2, 1), nn.ReLU())",
    ),
    IMAGE: (
        "nn.Conv2d(6, 6, 3, padding=1)",
        "nn.Conv2d(6, 6, (1, 3), padding=(0, 1), groups=2)",
        "nn.Conv2d(6, 6, 1, bias=False)",
        "nn.BatchNorm2d(6)",
        "nn.GroupNorm(3, 6)",
        "nn.ConvTranspose2d(6, 6, 3, padding=1)",
        "nn.Sequential(nn.Conv2d(6, 6, 3, 1, 1), nn.BatchNorm2d(6), nn.ReLU())",
        "nn.MaxPool2d(3, 1, 1)",
        "nn.PReLU(6)",
        "nn.Identity()",
    ),
    VECTOR: ("nn.Linear(6, 6)", "nn.LayerNorm(6)", "nn.Identity()"),
}
_CHANGES = {
    SEQUENCE: (
        "{m}({x})",
        "{m}({x})",
        "{m}({x}) + {x}",
        "torch.tanh({x})",
        "F.gelu({x})",
        "{x}.softmax(-1)",
        "{x}.softmax(1)",
        "{x}.flip(1)",
        "{x}.roll({n}, 1)",
        "{x}.cumsum(1).tanh()",
        "F.pad({x}[:, :-1], (0, 0, 1, 0))",
        "F.pad({x}, (0, 0, {n}, 0))[:, :{x}.shape[1]]",
        "{x} - {x}.mean(1, keepdim=True)",
        "{x} * {x}.amax(-1, keepdim=True).sigmoid()",
        "F.scaled_dot_product_attention({x}, {y}, {x})",
        "F.scaled_dot_product_attention({x}, {y}, {y}, is_causal=True)",
        "torch.cat({x}.chunk(2, -1)[::-1], -1)",
        "torch.cat([{x}[..., {n}:], {y}[..., :{n}]], -1)",
        "{x}.view(*{x}.shape[:2], 2, 3).transpose(2, 3).reshape({x}.shape)",
        "{x}.unflatten(-1, (3, 2)).flip(2).flatten(2)",
        "torch.where({x} > 0, {y}, {x} * 0.5)",
        "{x}.masked_fill({y} > 1, 0.5)",
        "torch.einsum('btd,bsd->bts', {x}, {y}).softmax(-1) @ {y}",
        "({x} @ {y}.transpose(1, 2)).tril() @ {x} / 8",
        "{x}.sort(-1).values",
        "{x}.gather(-1, {y}.argsort(-1))",
        "torch.stack([{x}, {y}], 2).mean(2)",
        "torch.stack([{x}, {y}], 1).amax(1)",
        "{x} + {v}[:, None]",
        "{x} * {v}.unsqueeze(1).sigmoid()",
        "torch.lerp({x}, {y}, 0.25)",
        "F.avg_pool1d({x}.transpose(1, 2), 3, 1, 1).transpose(1, 2)",
        "{x}.clamp(-{n}, {n})",
        "{x}.new_ones({x}.shape) * {y}",
        "{x} + torch.arange({x}.shape[1], dtype={x}.dtype)[None, :, None] / 8",
        "{x} / (1 + {y}.norm(dim=-1, keepdim=True))",
        "{recurrent}({x})[0]",
        "{recurrent}({x})[0] + {y}",
        "{attention}({x}, {y}, {x})[0]",
        "{attention}({x}, {x}, {x}, need_weights=False)[0] + {x}",
        "{x} + {table}[..., :{x}.shape[1], :]",
        "{x} * {table}[..., -{x}.shape[1]:, :].tanh()",
    ),
    IMAGE: (
        "{m}({x})",
        "{m}({x})",
        "{m}({x}) + {x}",
        "F.relu({x})",
        "F.leaky_relu({x}, 0.2)",
        "F.silu({x})",
        "{x}.flip(-1)",
        "{x}.roll((1, {n}), (2, 3))",
        "F.pad({x}, (1, 0, 0, {n}))[:, :, {n}:, 1:]",
        "F.max_pool2d({x}, 3, 1, 1)",
        "F.avg_pool2d({x}, 3, 1, 1, count_include_pad=False)",
        "F.interpolate({x}, scale_factor=2, mode='nearest')[..., ::2, ::2]",
        "F.interpolate({x}, size={y}.shape[-2:], mode='bilinear', align_corners=False)",
        "{x} * F.adaptive_avg_pool2d({y}, 1).sigmoid()",
        "{x} * {v}[:, :, None, None].sigmoid()",
        "{x} - {x}.mean((2, 3), keepdim=True)",
        "{x} - {x}.mean(1, keepdim=True)",
        "F.layer_norm({x}.permute(0, 2, 3, 1), (6,)).permute(0, 3, 1, 2)",
        "F.pixel_unshuffle(F.pixel_shuffle(torch.cat([{x}, {y}], 1), 2), 2)[:, 3:9]",
        "{x}.view({x}.size(0), 2, 3, *{x}.shape[2:]).transpose(1, 2).reshape({x}.shape)",
        "torch.cat([{x}[:, {n}:], {y}[:, :{n}]], 1)",
        "torch.cat([{y}[:, :3], {x}[:, 3:]], 1)",
        "torch.maximum({x}, {y})",
        "F.interpolate({smaller}({x}), size={x}.shape[2:])",
        "F.interpolate({smaller}({x}), size={y}.shape[2:], mode='bilinear') + {y}",
        "{x} + F.interpolate({smaller}({smaller}({x})), {x}.shape[-2:], mode='nearest')",
        "{x}.flatten(2).softmax(-1).view_as({x}) * {y}",
        "{x}.transpose(2, 3).softmax(2).transpose(2, 3)",
        "({x}.flatten(2).transpose(1, 2) * {v}[:, None]).transpose(1, 2).reshape({x}.shape)",
        "torch.where({x} > {y}, {x}, {y} / 2)",
        "F.unfold({x}, 3, padding=1).view({x}.size(0), 6, 9, *{x}.shape[2:]).amax(2)",
    ),
    VECTOR: (
        "{m}({x})",
        "{x}.tanh()",
        "{x} * {y}",
        "torch.cat([{x}[:, {n}:], {y}[:, :{n}]], 1)",
        "F.normalize({x}, dim=-1)",
        "{x}.cumsum(-1).sigmoid()",
        "torch.outer({x}[:, 0], {y}[0])",
    ),
}
# a value of the first kind out of one {x} of the second; {i} is an image
_CROSSINGS = {
    (VECTOR, SEQUENCE): (
        "{x}.mean(1)",
        "{x}[:, 0]",
        "{x}[:, -1]",
        "{x}.max(1).values",
        "{x}.logsumexp(1)",
        "{x}.std(1)",
    ),
    (VECTOR, IMAGE): (
        "{x}.mean((2, 3))",
        "{x}.amax((-1, -2))",
        "F.adaptive_max_pool2d({x}, 1).flatten(1)",
        "{x}.flatten(2).mean(-1)",
        "{x}[:, :, 0, -1]",
    ),
    (SEQUENCE, IMAGE): (
        "{x}.flatten(2).transpose(1, 2)",
        "{x}.mean(2).transpose(1, 2)",
        "{x}.permute(0, 2, 3, 1).flatten(1, 2)",
        "{x}.amax(-1).permute(0, 2, 1)",
    ),
    (IMAGE, SEQUENCE): (
        "{x}.transpose(1, 2).unsqueeze(-1) * {x}.transpose(1, 2).unsqueeze(2)",
        "{x}.transpose(1, 2)[:, :, None].expand(-1, -1, 2, -1)",
    ),
}
_IN_PLACE = {
    SEQUENCE: ("{x}[:, 0] = {n}", "{x}[..., ::2] += 1", "{x}[:, -1].mul_(2)", "{x}.add_(1)"),
    IMAGE: ("{x}[:, 0] = {n}", "{x}[..., :1] *= 2", "{x}.mul_(0.5)"),
    VECTOR: ("{x}[0] = {n}", "{x}.add_(1)"),
}


# heads of loops over a row, and how a turn calls its layer
_HEADS = (
    ("for layer in {row}:", "layer"),
    ("for k, layer in enumerate({row}):", "layer"),
    ("for k in range(len({row})):", "{row}[k]"),
    ("for layer in reversed({row}):", "layer"),
    ("for layer in {row}[1:]:", "layer"),
    ("for k, layer in enumerate({row}[::2]):", "layer"),
    ("for layer, g in zip({row}, [1, 2, 1, 3, 2]):", "layer"),
    ("for layer, g in zip({row}, (0.5, 0.5, 2, 2, 2)):", "layer"),
)
# what becomes of a list of values
_JOINED = (
    "torch.stack(kept, 0).mean(0)",
    "sum(kept)",
    "kept[0] + kept[-1]",
    "kept[1] - kept[-1]",
    "torch.stack(kept[1:], -1).amax(-1)",
    "torch.cat(kept[-2:], 1)[:, :kept[0].shape[1]]",
)


@dataclass
class Writer:
    """Writes one network. `made` are lines of __init__, `names` the values that are there."""

    chance: random.Random
    made: list[str] = field(default_factory=list)
    names: dict[str, list[str]] = field(default_factory=dict)
    blocks: list[str] = field(default_factory=list)
    layers: int = 0
    values: int = 0
    inner: bool = False  # whether it writes a block

    def one(self, kind: str) -> str:
        """A value of the kind, most often a late one."""
        there = self.names[kind]
        return there[-1] if self.chance.random() < 0.6 else self.chance.choice(there)

    def layer(self, kind: str) -> str:
        """A layer of __init__ for values of the kind."""
        self.layers += 1
        self.made.append(f"self.m{self.layers} = {self.chance.choice(_LAYERS[kind])}")
        return f"self.m{self.layers}"

    def value(self, kind: str, named: str | None = None) -> str:
        """A name for a new value, which may be one that is there already."""
        if named is None and self.chance.random() < 0.4 and self.names[kind]:
            named = self.chance.choice(self.names[kind])
        if named is None:
            self.values += 1
            named = f"{kind[0]}{self.values}"
        if named in self.names[kind]:
            self.names[kind].remove(named)
        self.names[kind].append(named)
        return named

    def expression(self, text: str, kind: str, layer: Callable[[], str]) -> str:
        """The text with values and layers in its gaps."""
        found = {"x": self.one(kind), "y": self.one(kind), "n": str(self.chance.randint(1, 3))}
        if "{v}" in text:
            found["v"] = self.one(VECTOR)
        if "{m}" in text:
            found["m"] = layer()
        for held in (RECURRENT, ATTENTION, TABLE, SMALLER):
            if f"{{{held}}}" in text:
                found[held] = self.layer(held)
        return text.format(**found)

    def statement(self, kind: str, layer: Callable[[], str], named: str | None = None) -> list[str]:
        """Lines that give a value of the kind to a name."""
        crossings = [c for (to, of), c in _CROSSINGS.items() if to == kind and self.names[of]]
        if self.names[kind] and named is None and self.chance.random() < 0.12:
            text = self.chance.choice(_IN_PLACE[kind])
            line = self.expression("{x}.clone()", kind, layer)
            into = self.value(kind)
            numbered = {"x": into, "n": str(self.chance.randint(1, 3))}
            return [f"{into} = {line}", text.format(**numbered)]
        if not self.names[kind] or (crossings and self.chance.random() < 0.15):
            pairs = [p for p in _CROSSINGS if p[0] == kind and self.names[p[1]]]
            pair = self.chance.choice(pairs)
            text = self.expression(self.chance.choice(_CROSSINGS[pair]), pair[1], layer)
        else:
            texts = _CHANGES[kind]
            if self.chance.random() < 0.3:  # what holds weights of its own
                texts = tuple(text for text in texts if re.search(r"\{[a-z]{2,}\}|\{m\}", text))
            text = self.chance.choice(texts)
            text = self.expression(text, kind, layer)
        return [f"{self.value(kind, named)} = {text}"]

    def block(self, kind: str) -> str:
        """The name of a class of blocks: Block(number, flag)(value, vector) gives a value."""
        inner = Writer(self.chance, names={SEQUENCE: [], IMAGE: [], VECTOR: ["v"]}, layers=100)
        inner.names[kind] = ["x"]
        inner.made += ["self.n = n", "self.flag = flag"]
        body = []
        for _ in range(self.chance.randint(1, 4)):
            lines = inner.statement(
                kind, lambda: inner.layer(kind), self.chance.choice(["x", None])
            )
            body += lines
        if self.chance.random() < 0.25 and not self.inner:
            inner.inner, inner.blocks = True, self.blocks
            body += inner.loop(kind)
        last = inner.names[kind][-1]
        body += self.chance.choice(
            [
                [],
                ["if self.flag:", f"    {last} = {last}.tanh()"],
                [f"{last} = {last} * self.n"],
                [f"{last} = {last}.roll(self.n, 1)"],
                [f"{last} = {last} + v.mean() * self.n"],
            ]
        )
        name = f"Block{len(self.blocks) + 1}"
        self.blocks.append(
            "\n".join(
                [
                    f"class {name}(nn.Module):",
                    "    def __init__(self, n, flag):",
                    "        super().__init__()",
                    *(f"        {line}" for line in inner.made),
                    "",
                    "    def forward(self, x, v):",
                    *(f"        {line}" for line in body),
                    f"        return {last}",
                ]
            )
        )
        return name

    def row(self, kind: str, count: int, blocks: bool = True) -> tuple[str, str]:
        """A list of layers in __init__, and how one of them is called: {x} in, a value out."""
        self.layers += 1
        name, chance = f"self.row{self.layers}", self.chance
        if blocks and chance.random() < 0.6:
            block = self.block(kind)
            options = chance.choice(["1, True", "i % 3, i > 0", "i, i % 2 == 0", "2, i < 2"])
            self.made.append(f"{name} = nn.ModuleList({block}({options}) for i in range({count}))")
            called = "({x}, {v})"
        else:
            kinds = _LAYERS[kind]
            if chance.random() < 0.5:
                made = f"{chance.choice(kinds)} for _ in range({count})"
            elif kind == IMAGE:
                made = (
                    f"nn.Conv2d(6, 6, 3, padding=d, dilation=d) for d in [1, 2, 3, 1, 2][:{count}]"
                )
            else:
                made = "[" + ", ".join(chance.choice(kinds) for _ in range(count)) + "]"
            self.made.append(f"{name} = nn.ModuleList({made})")
            called = "({x})"
        if count > 1 and chance.random() < 0.15:
            self.made.append(f"{name}[{chance.randrange(1, count)}] = {name}[0]")
        return name, called

    def loop(self, kind: str) -> list[str]:
        """A loop over a row: one or two values are carried, and some are kept in a list."""
        chance = self.chance
        name, called = self.row(kind, chance.randint(2, 5))
        head, layer = chance.choice(_HEADS)
        head, layer = head.format(row=name), layer.format(row=name)
        carried = self.one(kind)
        other = next((n for n in self.names[kind] if n != carried), None)
        kept = f"kept{self.layers}" if chance.random() < 0.35 else None
        before = {k: list(v) for k, v in self.names.items()}
        call = layer + called.format(x=carried, v=self.names[VECTOR][-1])
        body = self.turn(head, carried, other, call, kept)
        first = f"{name}[0]"
        for _ in range(chance.randrange(3)):
            inner = lambda: first if called == "({x})" else self.layer(kind)
            body += self.statement(kind, inner, carried)
        self.names = before
        lines = [head, *(f"    {line}" for line in body)]
        if kept is None:
            return lines
        joined = chance.choice(_JOINED).replace("kept", kept)
        return [
            f"{kept} = [{carried}]",
            *lines,
            f"    {kept}.append({carried})",
            f"{self.value(kind)} = {joined}",
        ]

    def pyramid(self) -> list[str]:
        """A loop that makes an image smaller, and one that goes back with what the first kept."""
        chance = self.chance
        count, x = chance.randint(1, 3), self.one(IMAGE)
        down, _ = self.row(IMAGE, count, blocks=False)
        smaller, kept, up = self.layer(SMALLER), f"kept{self.layers}", self.layer(IMAGE)
        joined = chance.choice(["new + old", "torch.cat([new, old], 1)[:, 3:9]", "new * old"])
        back = chance.choice(
            [
                ["while kept:", "    old = kept.pop()"],
                ["for old in reversed(kept):"],
                ["for old in kept[::-1]:"],
                [f"for k in range({count}):", "    old = kept[-1 - k]"],
            ]
        )
        mode = chance.choice(["'nearest'", "'bilinear'", "'bilinear', align_corners=True"])
        return [
            f"{kept} = []",
            f"for layer in {down}:",
            f"    {x} = layer({x})",
            f"    {kept}.append({x})",
            f"    {x} = {smaller}({x})",
            *(line.replace("kept", kept) for line in back),
            f"    new = F.interpolate({x}, size=old.shape[2:], mode={mode})",
            f"    {x} = {up}({joined})",
        ]

    def turn(
        self, head: str, carried: str, other: str | None, call: str, kept: str | None
    ) -> list[str]:
        """What one turn does with the layer."""
        forms = [
            [f"{carried} = {call}"],
            [f"{carried} = {carried} + {call}"],
            [f"old = {carried}", f"{carried} = {call}", f"{carried} = ({carried} + old) * 0.5"],
        ]
        if other is not None:
            forms.append([f"{other}, {carried} = {carried}, {call} + {other}"])
            forms.append([f"{carried} = {call}", f"{other} = {other} + {carried}"])
        if "for k" in head:
            forms.append([f"new = {call}", f"{carried} = new if k % 2 else new + {carried}"])
            forms.append(["if k > 0:", f"    {carried} = {call}"])
        if ", g in" in head:
            forms.append([f"{carried} = {call} * g"])
            forms.append([f"{carried} = {carried} + {call} / g"])
        if kept is not None:
            forms.append([f"{carried} = {call} + {kept}[-1]"])
            forms.append([f"{carried} = {call} + {kept}[0]"])
        return self.chance.choice(forms)


def source(seed: int) -> tuple[str, str]:
    """The text of one network, of the class Net, and the kind of its input."""
    chance = random.Random(seed)
    kind = chance.choice([SEQUENCE, SEQUENCE, IMAGE, IMAGE, IMAGE])
    writer = Writer(chance, names={SEQUENCE: [], IMAGE: [], VECTOR: []})
    writer.names[kind] = ["x"]
    writer.made.append(f"self.first = {_LAYERS[kind][0]}")  # something to train, in every network
    body = ["x = self.first(x)", *writer.statement(VECTOR, lambda: writer.layer(kind), "v")]
    for _ in range(chance.randint(2, 6)):
        if kind == IMAGE and chance.random() < 0.1:
            body += writer.pyramid()
            continue
        kinds = [k for k in (kind, kind, kind, SEQUENCE, VECTOR) if writer.names[k]]
        if kind == IMAGE and chance.random() < 0.15:
            kinds = [SEQUENCE]
        now = chance.choice(kinds)
        if now != VECTOR and writer.names[now] and chance.random() < 0.4:
            body += writer.loop(now)
        else:
            body += writer.statement(now, lambda now=now: writer.layer(now))  # type: ignore[misc]
    results = [names[-1] for names in writer.names.values() if names]
    lines = [
        HEAD,
        *(f"\n{block}\n" for block in writer.blocks),
        "\nclass Net(nn.Module):",
        "    def __init__(self):",
        "        super().__init__()",
        *(f"        {line}" for line in writer.made),
        "",
        "    def forward(self, x):",
        *(f"        {line}" for line in body),
        f"        return {', '.join(results)}",
        "",
    ]
    return "\n".join(lines), kind
