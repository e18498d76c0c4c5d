"""A sine continued by two LSTM cells, as in torch's time sequence example."""

import numpy as np
import torch
import torch.nn as nn
import torch.optim as optim


class Sequence(nn.Module):
    def __init__(self):
        super(Sequence, self).__init__()
        self.lstm1 = nn.LSTMCell(1, 12, bias=False)
        self.lstm2 = nn.LSTMCell(12, 12, bias=False)
        self.linear = nn.Linear(12, 1)

    def forward(self, input, future=0):
        outputs = []
        h_t = torch.zeros(input.size(0), 12, dtype=torch.float32)
        c_t = torch.zeros(input.size(0), 12, dtype=torch.float32)
        h_t2 = torch.zeros(input.size(0), 12, dtype=torch.float32)
        c_t2 = torch.zeros(input.size(0), 12, dtype=torch.float32)

        for input_t in input.split(1, dim=1):
            h_t, c_t = self.lstm1(input_t, (h_t, c_t))
            h_t2, c_t2 = self.lstm2(h_t, (h_t2, c_t2))
            output = self.linear(h_t2)
            outputs += [output]
        for i in range(future):  # if we should predict the future
            h_t, c_t = self.lstm1(output, (h_t, c_t))
            h_t2, c_t2 = self.lstm2(h_t, (h_t2, c_t2))
            output = self.linear(h_t2)
            outputs += [output]
        outputs = torch.cat(outputs, dim=1)
        return outputs


def build():
    return Sequence()


def run(seq):
    T = 20
    x = np.empty((8, 24), "int64")
    x[:] = np.array(range(24)) + np.arange(8).reshape(8, 1) * 3
    data = np.sin(x / 1.0 / T * 6).astype("float32")
    input = torch.from_numpy(data[3:, :-1])
    target = torch.from_numpy(data[3:, 1:])
    test_input = torch.from_numpy(data[:3, :-1])
    test_target = torch.from_numpy(data[:3, 1:])
    criterion = nn.MSELoss()
    optimizer = optim.Adam(seq.parameters(), lr=0.01)
    history = []
    for i in range(25):
        optimizer.zero_grad()
        out = seq(input)
        loss = criterion(out, target)
        history.append(loss.item())
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        future = 6
        pred = seq(test_input, future=future)
        loss = criterion(pred[:, :-future], test_target)
        history.append(loss.item())
        y = pred.detach().numpy()
        history.append(float(y.shape[1]))
    return history
