"""Pretraining, top-level statements: micro steps of which the last alone averages, tied weights."""

import argparse
import json
import math
import os

import numpy as np
import torch
import torch.nn as nn
from torch.distributed import destroy_process_group, init_process_group
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel as DDP

vocab_size, block_size, batch_size = 17, 8, 3
gradient_accumulation_steps = 8
grad_clip = 0.5
backend = "gloo"


class Block(nn.Module):
    def __init__(self, n_embd, n_head):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(n_embd), nn.LayerNorm(n_embd)
        self.c_attn = nn.Linear(n_embd, 3 * n_embd, bias=False)
        self.c_proj = nn.Linear(n_embd, n_embd, bias=False)
        self.mlp = nn.Sequential(
            nn.Linear(n_embd, 2 * n_embd), nn.GELU(), nn.Linear(2 * n_embd, n_embd)
        )
        self.n_head = n_head

    def attend(self, x):
        B, T, C = x.size()
        q, k, v = self.c_attn(x).split(C, dim=2)
        k = k.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)
        q = q.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)
        v = v.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.c_proj(y.transpose(1, 2).contiguous().view(B, T, C))

    def forward(self, x):
        x = x + self.attend(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    def __init__(self, n_embd=16, n_head=2, n_layer=2):
        super().__init__()
        self.wte = nn.Embedding(vocab_size, n_embd)
        self.wpe = nn.Embedding(block_size, n_embd)
        self.h = nn.ModuleList([Block(n_embd, n_head) for _ in range(n_layer)])
        self.ln_f = nn.LayerNorm(n_embd)
        self.lm_head = nn.Linear(n_embd, vocab_size, bias=False)
        self.wte.weight = self.lm_head.weight

    def forward(self, idx, targets):
        pos = torch.arange(0, idx.size(1), dtype=torch.long, device=idx.device)
        x = self.wte(idx) + self.wpe(pos)
        for block in self.h:
            x = block(x)
        logits = self.lm_head(self.ln_f(x))
        loss = F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1))
        return logits, loss


def build():
    return GPT()


def get_lr(it):
    if it < 5:
        return 5e-3 * (it + 1) / 6
    return 5e-4 + 0.5 * (1.0 + math.cos(math.pi * it / 60)) * 4.5e-3


def main(args):
    ddp = int(os.environ.get("RANK", -1)) != -1
    if ddp:
        init_process_group(backend=backend)
        ddp_rank = int(os.environ["RANK"])
        ddp_local_rank = int(os.environ["LOCAL_RANK"])
        ddp_world_size = int(os.environ["WORLD_SIZE"])
        device = "cpu"
        master_process = ddp_rank == 0
        seed_offset = ddp_rank
        assert gradient_accumulation_steps % ddp_world_size == 0
        micro_steps = gradient_accumulation_steps // ddp_world_size
    else:
        master_process, seed_offset, ddp_world_size, micro_steps = True, 0, 1, 8
        ddp_local_rank = 0
        device = "cpu"
    tokens = batch_size * block_size * micro_steps * ddp_world_size
    data = (np.arange(3000) * 7 + np.random.RandomState(1).randint(0, 3, 3000)) % vocab_size
    draw = np.random.RandomState(1337 + seed_offset)

    def get_batch():
        ix = draw.randint(0, len(data) - block_size - 1, (batch_size,))
        x = torch.stack([torch.from_numpy(data[i : i + block_size].astype(np.int64)) for i in ix])
        y = torch.stack(
            [torch.from_numpy(data[i + 1 : i + 1 + block_size].astype(np.int64)) for i in ix]
        )
        return x.to(device), y.to(device)

    model = GPT()
    model.load_state_dict(torch.load(args.weights, map_location=device))
    model.to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, betas=(0.9, 0.95), weight_decay=0.1)
    if ddp:
        model = DDP(model, device_ids=None)
    raw_model = model.module if ddp else model
    losses = []
    X, Y = get_batch()
    for iter_num in range(args.steps):
        for param_group in optimizer.param_groups:
            param_group["lr"] = get_lr(iter_num)
        for micro_step in range(micro_steps):
            if ddp:
                # in DDP training we only need to sync gradients at the last micro step
                model.require_backward_grad_sync = micro_step == micro_steps - 1
            logits, loss = model(X, Y)
            loss = loss / micro_steps
            X, Y = get_batch()
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item() * micro_steps)
        if master_process and iter_num % 10 == 0:
            print(f"iter {iter_num}: loss {losses[-1]:.4f}, {tokens} tokens on {ddp_local_rank}")
    last = raw_model.lm_head.weight.abs().sum().item()
    with open(os.path.join(args.out, f"{ddp_rank if ddp else 0}.json"), "w") as file:
        json.dump([losses, last], file)
    if ddp:
        destroy_process_group()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--weights")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--out")
    main(parser.parse_args())
