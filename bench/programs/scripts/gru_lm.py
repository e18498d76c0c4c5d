"""A character language model with a GRU, truncated backpropagation and clipping."""

import math

import torch
import torch.nn as nn

TEXT = "to be or not to be that is the question whether tis nobler in the mind to suffer " * 12


class CharModel(nn.Module):
    def __init__(self, vocab, emb=12, hidden=24, layers=2, dropout=0.2):
        super().__init__()
        self.drop = nn.Dropout(dropout)
        self.embed = nn.Embedding(vocab, emb)
        self.gru = nn.GRU(emb, hidden, layers, dropout=dropout)
        self.out = nn.Linear(hidden, vocab)
        self.init_weights()

    def init_weights(self):
        initrange = 0.1
        self.embed.weight.data.uniform_(-initrange, initrange)
        self.out.bias.data.zero_()
        self.out.weight.data.uniform_(-initrange, initrange)

    def forward(self, tokens, hidden):
        emb = self.drop(self.embed(tokens))
        output, hidden = self.gru(emb, hidden)
        return self.out(self.drop(output)), hidden

    def init_hidden(self, batch):
        weight = next(self.parameters())
        return weight.new_zeros(2, batch, 24)


torch.manual_seed(0)
chars = sorted(set(TEXT))
ids = torch.tensor([chars.index(c) for c in TEXT])
batch, bptt = 4, 12
data = ids[: len(ids) // batch * batch].view(batch, -1).t().contiguous()
model = CharModel(len(chars))
criterion = nn.CrossEntropyLoss()
lr = 0.5
optimizer = torch.optim.SGD(model.parameters(), lr=lr)

for epoch in range(3):
    model.train()
    total_loss, hidden = 0.0, model.init_hidden(batch)
    for i in range(0, data.size(0) - 1 - bptt, bptt):
        inputs, targets = data[i : i + bptt], data[i + 1 : i + 1 + bptt].reshape(-1)
        hidden = hidden.detach()
        model.zero_grad()
        output, hidden = model(inputs, hidden)
        loss = criterion(output.view(-1, len(chars)), targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.25)
        optimizer.step()
        total_loss += loss.item()
    count = (data.size(0) - 1 - bptt) // bptt
    print(f"epoch {epoch} ppl {math.exp(total_loss / count):8.2f}")
