"""A small training program that knows nothing of ndrepro: `python train.py LEARNING_RATE`."""

import sys

import torch

torch.manual_seed(0)
inputs, targets = torch.randn(512, 64), torch.randn(512, 1)
network = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.ReLU(), torch.nn.Linear(256, 1))
optimizer = torch.optim.SGD(network.parameters(), lr=float(sys.argv[1]))

for step in range(1, 51):
    loss = torch.nn.functional.mse_loss(network(inputs), targets)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 10 == 0:
        print(f"step {step}: loss {loss.item():.6f}")
