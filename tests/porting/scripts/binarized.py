"""Binary weights with a gradient of their own, and a gradient that is turned around."""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.autograd import Function


class Binarize(torch.autograd.Function):
    @staticmethod
    def forward(ctx, input):
        ctx.save_for_backward(input)
        return input.sign()

    @staticmethod
    def backward(ctx, grad_output):
        (input,) = ctx.saved_tensors
        grad_input = grad_output.clone()
        grad_input[input.abs() > 1] = 0
        return grad_input


class ReverseLayerF(Function):
    @staticmethod
    def forward(ctx, x, alpha):
        ctx.alpha = alpha
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad_output):
        output = grad_output.neg() * ctx.alpha
        return output, None


class BinaryLinear(nn.Linear):
    def forward(self, x):
        return F.linear(x, Binarize.apply(self.weight), self.bias)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Linear(6, 12)
        self.binary = BinaryLinear(12, 12)
        self.label = nn.Linear(12, 3)
        self.domain = nn.Linear(12, 2)

    def forward(self, x, alpha):
        h = torch.tanh(self.features(x))
        h = torch.tanh(self.binary(h))
        reverse = ReverseLayerF.apply(h, alpha)
        return self.label(h), self.domain(reverse)


def build():
    return Net()


def run(net):
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    loss_class = torch.nn.CrossEntropyLoss()
    loss_domain = torch.nn.CrossEntropyLoss()
    draw = np.random.RandomState(0)
    history = []
    for i in range(40):
        p = float(i) / 40
        alpha = 2.0 / (1.0 + np.exp(-10 * p)) - 1
        x = torch.from_numpy(draw.randn(16, 6).astype(np.float32))
        label = (x.sum(1) > 0).long() + (x[:, 0] > 1).long()
        domain = (x[:, 1] > 0).long()
        net.zero_grad()
        class_output, domain_output = net(x, alpha)
        err_label = loss_class(class_output, label)
        err_domain = loss_domain(domain_output, domain)
        err = err_label + err_domain
        err.backward()
        optimizer.step()
        history += [err_label.item(), err_domain.item()]
    return history
