"""A student learns from a frozen teacher: soft targets at a temperature, and the labels."""

import torch
import torch.nn as nn
import torch.nn.functional as F


def make(width):
    return nn.Sequential(nn.Linear(8, width), nn.ReLU(), nn.Dropout(0.1), nn.Linear(width, 4))


torch.manual_seed(0)
x, y = torch.randn(160, 8), torch.randint(0, 4, (160,))
teacher, student = make(64), make(8)
t_opt = torch.optim.Adam(teacher.parameters(), lr=1e-2)
for epoch in range(4):
    for i in range(0, 160, 32):
        t_opt.zero_grad()
        F.cross_entropy(teacher(x[i : i + 32]), y[i : i + 32]).backward()
        t_opt.step()

teacher.eval()
for p in teacher.parameters():
    p.requires_grad = False

T, alpha = 4.0, 0.7
optimizer = torch.optim.SGD(student.parameters(), lr=0.05, momentum=0.9)
kd = nn.KLDivLoss(reduction="batchmean")
for epoch in range(6):
    student.train()
    for i in range(0, 160, 32):
        inputs, labels = x[i : i + 32], y[i : i + 32]
        with torch.no_grad():
            teacher_logits = teacher(inputs)
        student_logits = student(inputs)
        soft = (
            kd(F.log_softmax(student_logits / T, dim=1), F.softmax(teacher_logits / T, dim=1))
            * T
            * T
        )
        hard = F.cross_entropy(student_logits, labels)
        loss = alpha * soft + (1.0 - alpha) * hard
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"{epoch}: {soft.item():.4f} {hard.item():.4f}")
