"""A translator of number words: GRU encoder, attending decoder, teacher forcing now and then."""

import random

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import optim

SOS, HIDDEN, LENGTH = 0, 16, 5


class EncoderRNN(nn.Module):
    def __init__(self, input_size, hidden_size):
        super(EncoderRNN, self).__init__()
        self.embedding = nn.Embedding(input_size, hidden_size)
        self.gru = nn.GRU(hidden_size, hidden_size, batch_first=True)

    def forward(self, input):
        return self.gru(self.embedding(input))


class AttnDecoderRNN(nn.Module):
    def __init__(self, hidden_size, output_size):
        super(AttnDecoderRNN, self).__init__()
        self.embedding = nn.Embedding(output_size, hidden_size)
        self.Wa = nn.Linear(hidden_size, hidden_size)
        self.Ua = nn.Linear(hidden_size, hidden_size)
        self.Va = nn.Linear(hidden_size, 1)
        self.gru = nn.GRU(2 * hidden_size, hidden_size, batch_first=True)
        self.out = nn.Linear(hidden_size, output_size)

    def forward_step(self, input, hidden, encoder_outputs):
        query = hidden.permute(1, 0, 2)
        scores = self.Va(torch.tanh(self.Wa(query) + self.Ua(encoder_outputs)))
        weights = F.softmax(scores.squeeze(2).unsqueeze(1), dim=-1)
        context = torch.bmm(weights, encoder_outputs)
        output, hidden = self.gru(torch.cat((self.embedding(input), context), dim=2), hidden)
        return self.out(output), hidden

    def forward(self, encoder_outputs, hidden, target, forced):
        input = torch.empty(encoder_outputs.size(0), 1, dtype=torch.long).fill_(SOS)
        outputs = []
        for i in range(LENGTH):
            output, hidden = self.forward_step(input, hidden, encoder_outputs)
            outputs.append(output)
            if forced:
                input = target[:, i].unsqueeze(1)
            else:
                _, topi = output.topk(1)
                input = topi.squeeze(-1).detach()
        return F.log_softmax(torch.cat(outputs, dim=1), dim=-1)


def train_step(x, y, encoder, decoder, encoder_optimizer, decoder_optimizer, criterion):
    encoder_optimizer.zero_grad()
    decoder_optimizer.zero_grad()
    encoder_outputs, encoder_hidden = encoder(x)
    decoder_outputs = decoder(encoder_outputs, encoder_hidden, y, random.random() < 0.5)
    loss = criterion(decoder_outputs.view(-1, decoder_outputs.size(-1)), y.view(-1))
    loss.backward()
    encoder_optimizer.step()
    decoder_optimizer.step()
    return loss.item()


random.seed(0)
torch.manual_seed(0)
source = torch.randint(1, 12, (64, LENGTH))
target = source.flip(1)
encoder, decoder = EncoderRNN(12, HIDDEN), AttnDecoderRNN(HIDDEN, 12)
encoder_optimizer = optim.Adam(encoder.parameters(), lr=5e-3)
decoder_optimizer = optim.Adam(decoder.parameters(), lr=5e-3)
criterion = nn.NLLLoss()
for epoch in range(6):
    for i in range(0, 64, 16):
        value = train_step(
            source[i : i + 16],
            target[i : i + 16],
            encoder,
            decoder,
            encoder_optimizer,
            decoder_optimizer,
            criterion,
        )
    print(epoch, value)
