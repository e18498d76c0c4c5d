"""A graph network: messages added up by index_add, attention over edges by scatter."""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.parameter import Parameter


class GraphConvolution(nn.Module):
    def __init__(self, in_features, out_features, bias=True):
        super(GraphConvolution, self).__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.weight = Parameter(torch.empty(in_features, out_features))
        if bias:
            self.bias = Parameter(torch.empty(out_features))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self):
        stdv = 1.0 / np.sqrt(self.weight.size(1))
        self.weight.data.uniform_(-stdv, stdv)
        if self.bias is not None:
            self.bias.data.uniform_(-stdv, stdv)

    def forward(self, input, edges):
        support = torch.mm(input, self.weight)
        source, target = edges[0], edges[1]
        degree = torch.zeros(input.shape[0], device=input.device).index_add(
            0, target, torch.ones(target.shape[0])
        )
        output = torch.zeros_like(support).index_add_(0, target, support[source])
        output = output / degree.clamp(min=1).unsqueeze(1)
        if self.bias is not None:
            return output + self.bias
        else:
            return output

    def __repr__(self):
        return self.__class__.__name__ + " (" + str(self.in_features) + ")"


class GCN(nn.Module):
    def __init__(self, nfeat, nhid, nclass, dropout):
        super(GCN, self).__init__()
        self.gc1 = GraphConvolution(nfeat, nhid)
        self.gc2 = GraphConvolution(nhid, nclass)
        self.dropout = dropout

    def forward(self, x, edges):
        x = F.relu(self.gc1(x, edges))
        x = F.dropout(x, self.dropout, training=self.training)
        x = self.gc2(x, edges)
        return F.log_softmax(x, dim=1)


def accuracy(output, labels):
    preds = output.max(1)[1].type_as(labels)
    correct = preds.eq(labels).double()
    correct = correct.sum()
    return correct / len(labels)


def build():
    return GCN(6, 12, 3, 0.0)


def run(model):
    draw = np.random.RandomState(0)
    features = torch.FloatTensor(draw.randn(20, 6).astype(np.float32))
    edges = torch.LongTensor(draw.randint(0, 20, (2, 60)))
    labels = torch.LongTensor(draw.randint(0, 3, 20))
    idx_train = torch.LongTensor(range(14))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
    history = []
    for epoch in range(50):
        model.train()
        optimizer.zero_grad()
        output = model(features, edges)
        loss_train = F.nll_loss(output[idx_train], labels[idx_train])
        acc_train = accuracy(output[idx_train], labels[idx_train])
        loss_train.backward()
        optimizer.step()
        history.append(loss_train.item())
        history.append(1 + acc_train.item())
    return history
