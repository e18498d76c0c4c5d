"""A recurrent language model: states carried from step to step, gradients clipped, RMSprop."""

import torch
import torch.nn as nn

torch.manual_seed(0)
text = torch.randint(0, 12, (4, 81))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(12, 10)
        self.lstm = nn.LSTM(10, 14, bias=False, batch_first=True)
        self.head = nn.Linear(14, 12)

    def forward(self, x, state=None):
        y, state = self.lstm(self.embed(x), state)
        return self.head(y), state


model = Model()
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.RMSprop(model.parameters(), lr=2e-3, alpha=0.95, eps=1e-6)
state = None
for i in range(0, 80, 8):
    x, y = text[:, i : i + 8], text[:, i + 1 : i + 9]
    optimizer.zero_grad()
    if state is not None:
        state = tuple(s.detach() for s in state)
    logits, state = model(x, state)
    loss = criterion(logits.reshape(-1, 12), y.reshape(-1))
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 0.1)
    optimizer.step()
