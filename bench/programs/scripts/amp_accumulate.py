"""Mixed precision idioms that are off on this machine, and gradients of several batches."""

import torch
import torch.nn as nn

torch.manual_seed(0)
use_cuda = torch.cuda.is_available()
device = "cuda" if use_cuda else "cpu"
model = nn.Sequential(nn.Linear(10, 32), nn.Tanh(), nn.Linear(32, 1)).to(device)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
scaler = torch.cuda.amp.GradScaler(enabled=use_cuda)
loss_fn = nn.MSELoss()
x = torch.randn(512, 10)
y = x.pow(2).mean(dim=1, keepdim=True)
accumulation_steps = 4

optimizer.zero_grad()
for i, (inputs, targets) in enumerate(zip(x.split(8), y.split(8))):
    inputs, targets = inputs.to(device, non_blocking=True), targets.to(device, non_blocking=True)
    with torch.autocast(device_type=device, enabled=use_cuda):
        outputs = model(inputs)
        loss = loss_fn(outputs, targets) / accumulation_steps
    scaler.scale(loss).backward()
    if (i + 1) % accumulation_steps == 0:
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        print(i, loss.item() * accumulation_steps)
