"""Sources of random training programs: networks, optimizers and steps, as people arrange them.

A program has one or two networks of the names `net` and `head`, and `train(xs, ys)`, which takes
inputs (batches, items, 4) and targets (batches, items, 3), trains for two epochs and answers with a
list of numbers that it noted. The same seed gives the same text.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

HEAD = """import copy
import itertools

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

"""
_BODIES = (
    ["self.fc1 = nn.Linear(4, 6)", "self.fc2 = nn.Linear(6, 4)"],
    ["self.fc1 = nn.Linear(4, 6)", "self.norm = nn.LayerNorm(6)", "self.fc2 = nn.Linear(6, 4)"],
    [  # a bias before the norm would have rounding for a gradient, of which Adam makes whole steps
        "self.fc1 = nn.Linear(4, 6, bias=False)",
        "self.norm = nn.BatchNorm1d(6)",
        "self.fc2 = nn.Linear(6, 4)",
    ],
    ["self.layers = nn.ModuleList([nn.Linear(4, 4) for _ in range(3)])"],
    ["self.body = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 4))"],
)
_FORWARDS = {
    "self.norm": ["return self.fc2(torch.relu(self.norm(self.fc1(x))))"],
    "self.fc2": ["x = torch.tanh(self.fc1(x))", "return self.fc2(x)"],
    "self.layers": ["for layer in self.layers:", "    x = x + torch.tanh(layer(x))", "return x"],
    "self.body": ["return self.body(x)"],
}
_OPTIMIZERS = (
    "optim.SGD({p}, lr=0.1)",
    "optim.SGD({p}, lr=0.05, momentum=0.9)",
    "torch.optim.SGD({p}, lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-2)",
    "optim.Adam({p}, lr=0.01)",
    "torch.optim.Adam({p}, lr=0.01, betas=(0.5, 0.999), eps=1e-4)",
    "optim.AdamW({p}, lr=0.01, weight_decay=0.1, eps=1e-4)",
    "optim.RMSprop({p}, lr=0.01, eps=1e-3)",
    "optim.Adagrad({p}, lr=0.05)",
)
_SCHEDULES = (
    ("optim.lr_scheduler.StepLR({o}, step_size=2, gamma=0.5)", "{s}.step()"),
    ("optim.lr_scheduler.ExponentialLR({o}, 0.9)", "{s}.step()"),
    ("optim.lr_scheduler.CosineAnnealingLR({o}, T_max=8)", "{s}.step()"),
    ("optim.lr_scheduler.LambdaLR({o}, lambda k: 1 / (1 + k))", "{s}.step()"),
    ("optim.lr_scheduler.MultiStepLR({o}, [1, 3], gamma=0.1)", "{s}.step()"),
    ("optim.lr_scheduler.ReduceLROnPlateau({o}, patience=0)", "{s}.step({l}.item())"),
)
_LOSSES = (
    "F.mse_loss({out}, {y})",
    "nn.MSELoss()({out}, {y})",
    "F.cross_entropy({out}, {y}.argmax(1))",
    "(({out} - {y}) ** 2).mean()",
    "F.smooth_l1_loss({out}, {y}, reduction='sum') / len({y})",
    "F.binary_cross_entropy_with_logits({out}, {y}.sigmoid())",
)
_BESIDE = (
    "0.01 * sum(p.pow(2).sum() for p in net.parameters())",
    "0.1 * out.abs().mean()",
    "0.1 * F.mse_loss(out, hidden.detach()[:, :3])",
    "0.5 * (hidden ** 2).mean()",
    "0.3 * F.mse_loss(hidden.mean(0), memory)",
)
_BEHIND = (  # statements behind a step
    ["with torch.no_grad():", "    for p in net.parameters():", "        p.clamp_(-0.4, 0.4)"],
    ["for p in net.parameters():", "    p.data.mul_(0.99)"],
    [
        "with torch.no_grad():",
        "    for e, p in zip(mean.parameters(), net.parameters()):",
        "        e.mul_(0.9).add_(p, alpha=0.1)",
    ],
    [
        "for e, p in zip(mean.parameters(), net.parameters()):",
        "    e.data = 0.9 * e.data + 0.1 * p.data",
    ],
    ["for group in opt.param_groups:", "    group['lr'] *= 0.9"],
    ["if count == 2:", "    for p in head.parameters():", "        p.requires_grad = False"],
)
_KEPT = (  # statements behind a loss that keep values for later turns
    ["memory = 0.9 * memory + 0.1 * hidden.detach().mean(0)"],
    ["memory = hidden.mean(0).detach()"],
    ["meter.update(loss.item(), len(x))"],
    [
        "if loss.item() < lowest:",
        "    lowest = loss.item()",
        "    held = copy.deepcopy(net.state_dict())",
    ],
    ["losses.append(loss.detach())"],
    ["total_loss += loss.detach()"],
)
_NOTES = (
    ["noted.append(loss.item())"],
    ["average = 0.9 * average + 0.1 * loss.item()", "noted.append(average)"],
    ["if loss.item() < best:", "    best = loss.item()", "noted.append(best)"],
    ["noted.append(float(loss))", "noted.append(opt.param_groups[0]['lr'])"],
    ["total += loss.item() * x.size(0)", "noted.append(total / (count + 1))"],
    ["noted.append((out.argmax(1) == y.argmax(1)).sum().item())", "noted.append(loss.item())"],
    ["noted.append(out.detach().mean().item())"],
    ["noted.append(sum(p.abs().sum().item() for p in net.parameters()))"],
    ["noted += [loss.detach().item(), net(x).mean().item()]"],
)
_CLIPS = (
    ["clip_grad_norm_(net.parameters(), 0.5)"],
    ["size = clip_grad_norm_(net.parameters(), 0.1)", "noted.append(float(size))"],
    ["nn.utils.clip_grad_value_(net.parameters(), 0.05)"],
    ["torch.nn.utils.clip_grad_norm_(list(net.parameters()) + list(head.parameters()), 0.3)"],
    ["if count > 1:", "    clip_grad_norm_(net.parameters(), 0.2)"],
    [
        "for p in net.parameters():",
        "    if p.grad is not None:",
        "        p.grad.data.clamp_(-0.1, 0.1)",
    ],
)
_SCORES = (
    [
        "net.eval()",
        "with torch.no_grad():",
        "    noted.append(F.mse_loss(head(net(xs[0])), ys[0]).item())",
        "net.train()",
    ],
    ["with torch.no_grad():", "    noted.append(head(mean(xs[0])).sum().item())"],
    ["noted.append(best)"],
    ["noted.append(meter.average)", "meter.reset()"],
    ["if held is not None:", "    net.load_state_dict(held)"],
    ["if losses:", "    noted.append(torch.stack(losses).mean().item())"],
    ["noted.append(float(total_loss))"],
    ["noted.append(memory.sum().item())"],
)
_EPOCHS = (  # statements where an epoch begins
    ["adjust(opt, epoch)"],
    ["opt.param_groups[0]['lr'] = 0.02 / (1 + epoch)"],
    ["for p in head.parameters():", "    p.requires_grad = epoch > 0"],
    ["losses = []"],
)
_TOOLS = """

class Meter:
    def __init__(self):
        self.reset()

    def reset(self):
        self.sum, self.count, self.average = 0.0, 0, 0.0

    def update(self, value, n=1):
        self.sum += value * n
        self.count += n
        self.average = self.sum / self.count


def adjust(optimizer, epoch):
    lr = 0.05 * (0.5 ** epoch)
    for group in optimizer.param_groups:
        group['lr'] = lr
"""


def _indented(lines: list[str], by: int = 1) -> list[str]:
    return [f"{'    ' * by}{line}" for line in lines]


@dataclass
class Program:
    """Draws one program."""

    chance: random.Random
    lines: list[str] = field(default_factory=list)

    def source(self) -> str:
        """The whole text."""
        body = self.chance.choice(_BODIES)
        forward = next(v for k, v in _FORWARDS.items() if any(k in line for line in body))
        self.lines = [
            "class Net(nn.Module):",
            "    def __init__(self):",
            "        super().__init__()",
            *_indented(body, 2),
            "",
            "    def forward(self, x):",
            *_indented(forward, 2),
            "",
            "",
            "net = Net()",
            "head = nn.Linear(4, 3)",
            "mean = copy.deepcopy(net)",
        ]
        self._optimizers()
        return HEAD + "\n".join([*self.lines, _TOOLS, "", *self._train(), ""])

    def _optimizers(self) -> None:
        chance = self.chance
        self.two = chance.random() < 0.35
        kind = chance.choice(_OPTIMIZERS)
        if self.two:
            self.lines.append("opt = " + kind.format(p="net.parameters()"))
            self.lines.append("other = " + chance.choice(_OPTIMIZERS).format(p="head.parameters()"))
        else:
            given = chance.choice(
                [
                    "list(net.parameters()) + list(head.parameters())",
                    "itertools.chain(net.parameters(), head.parameters())",
                    "[{'params': net.parameters()}, {'params': head.parameters(), 'lr': 0.03}]",
                    "[{'params': decayed, 'weight_decay': 0.1}, {'params': plain}]",
                    "[*net.parameters(), *head.parameters()]",
                ]
            )
            self.lines.append("opt = " + kind.format(p=given))
        if "decayed" in self.lines[-1]:
            named = "n, p in [*net.named_parameters(), *head.named_parameters()]"
            self.lines[-1:-1] = [
                f"decayed = [p for {named} if 'bias' not in n]",
                f"plain = [p for {named} if 'bias' in n]",
            ]
        self.schedule = None
        if chance.random() < 0.4:
            made, step = chance.choice(_SCHEDULES)
            self.lines.append("schedule = " + made.format(o="opt"))
            self.schedule = step.format(s="schedule", l="loss")
        if chance.random() < 0.15:
            self.lines += ["for p in mean.parameters():", "    p.requires_grad_(False)"]

    def _loss(self) -> list[str]:
        chance = self.chance
        lines = ["hidden = net(x)", "out = head(hidden)"]
        loss = chance.choice(_LOSSES).format(out="out", y="y")
        form = chance.randrange(4)
        if form == 0:
            return [*lines, f"loss = {loss}"]
        if form == 1:
            return [*lines, f"loss = {loss} + {chance.choice(_BESIDE)}"]
        if form == 2:
            return [*lines, f"loss = {loss}", f"loss = loss + {chance.choice(_BESIDE)}"]
        other = chance.choice(_BESIDE)
        return [*lines, f"loss = {loss}", "if count % 2 == 0:", f"    loss = loss + {other}"]

    def _step(self) -> list[str]:
        """Backward, clipping and the step of one batch."""
        chance = self.chance
        both = ["opt.step()", "other.step()"] if self.two else ["opt.step()"]
        zero = ["opt.zero_grad()", "other.zero_grad()"] if self.two else ["opt.zero_grad()"]
        if not self.two and chance.random() < 0.2:
            zero = ["net.zero_grad()", "head.zero_grad()"]
        clip = chance.choice(_CLIPS) if chance.random() < 0.35 else []
        scheduled = [self.schedule] if self.schedule and chance.random() < 0.5 else []
        self.late = [self.schedule] if self.schedule and not scheduled else []
        behind = chance.choice(_BEHIND) if chance.random() < 0.35 else []
        kept = chance.choice(_KEPT) if chance.random() < 0.4 else []
        loss, form = [*self._loss(), *kept], chance.randrange(5)
        if self.two and chance.random() < 0.3:
            first = chance.choice(_LOSSES).format(out="head(net(x).detach())", y="y")
            return [
                f"first = {first}",
                "other.zero_grad()",
                "first.backward()",
                "other.step()",
                *loss,
                "opt.zero_grad()",
                "loss.backward()",
                *clip,
                "opt.step()",
                *scheduled,
                *behind,
            ]
        if form == 0:
            every = chance.choice([2, 3])
            inner = [*clip, *both, *scheduled, *zero, *behind]
            return [
                *loss,
                f"(loss / {every}).backward()",
                f"if (count + 1) % {every} == 0:",
                *_indented(inner),
            ]
        if form == 1:
            return [*loss, *zero, "loss.backward()", *clip, *both, *scheduled, *behind]
        if form == 2:
            more = f"extra = {chance.choice(_BESIDE[1:])}"
            backward = ["loss.backward(retain_graph=True)", "extra.backward()"]
            return [*zero, *loss, more, *backward, *clip, *both, *scheduled, *behind]
        if form == 3:
            return [*loss, "loss.backward()", *clip, *both, *scheduled, *zero, *behind]
        return [*zero, *loss, "loss.backward()", *clip, *both, *scheduled, *behind]

    def _train(self) -> list[str]:
        chance = self.chance
        step = self._step()
        note = chance.choice(_NOTES)
        skipped = ["if count == 1 and epoch == 0:", "    count += 1", "    continue"]
        early = skipped if chance.random() < 0.15 else []
        score = chance.choice(_SCORES) if chance.random() < 0.4 else []
        own = ("average", "best", "total", "memory", "lowest", "losses")  # of `train` alone
        carried = any(word in line for word in own for line in [*note, *step])
        if chance.random() < 0.4 and not carried:
            inner, call = self._helper(step, note)
            body = [*early, *call, "count += 1"]
        else:
            inner, body = [], [*early, *step, *note, "count += 1"]
        head = chance.choice(
            [
                ["for x, y in zip(xs, ys):"],
                ["for i, (x, y) in enumerate(zip(xs, ys)):"],
                ["for i in range(len(xs)):", "    x, y = xs[i], ys[i]"],
                ["for i in range(xs.shape[0]):", "    x = xs[i]", "    y = ys[i]"],
            ]
        )
        begin = ["opt.zero_grad()", *(["other.zero_grad()"] if self.two else [])]
        return [
            *inner,
            "def train(xs, ys):",
            "    xs, ys = torch.as_tensor(xs), torch.as_tensor(ys)",
            "    noted = []",
            "    count, average, best, total = 0, 0.0, float('inf'), 0.0",
            "    memory, meter, losses = torch.zeros(4), Meter(), []",
            "    lowest, held, total_loss = float('inf'), None, torch.tensor(0.0)",
            *_indented(begin),
            "    net.train()",
            "    for epoch in range(2):",
            *_indented(chance.choice(_EPOCHS) if chance.random() < 0.25 else [], 2),
            *_indented(head, 2),
            *_indented(body, 3),
            *_indented(self.late, 2),
            *_indented(score, 2),
            "    return noted",
        ]

    def _helper(self, step: list[str], note: list[str]) -> tuple[list[str], list[str]]:
        """A function of the step, and its call."""
        return (
            [
                "def step_of(x, y, count, noted, meter):",
                *_indented(step),
                *_indented(note),
                "    return loss.item()",
                "",
                "",
            ],
            ["value = step_of(x, y, count, noted, meter)", "noted.append(value)"],
        )


def source(seed: int) -> str:
    """The text of one program."""
    return Program(random.Random(seed)).source()
