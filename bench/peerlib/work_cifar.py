"""resnet20 on CIFAR-10 in PyTorch, with the recipe that bench/cifar gives cnn-train.

    work_cifar.py FOLDER --epochs N [--seed N] [--threads N]

FOLDER: of CIFAR-10's binary files. The same network, as many of the training images (the last tenth is left out; cnn-train chooses its own), images
changed in the same way (mirrored or not, moved by up to 4 pixels), batch 64, SGD with Nesterov's momentum, decay of every
weight, and learning rate of each step; weights as torchvision begins. bf16 by autocast, channels last. Random numbers are
PyTorch's own. Prints a line an epoch to stderr, at the end a JSON object with the accuracy on all test images in FP32.
"""
import argparse
import json
import math
import os
import sys
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional

BATCH, RATE, MOMENTUM, DECAY = 64, 0.1, 0.9, 5e-4
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


class Block(nn.Module):
    def __init__(self, before, width, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = None
        if stride != 1 or before != width:
            self.downsample = nn.Sequential(nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x):
        side = x if self.downsample is None else self.downsample(x)
        x = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(x)) + side)


class ResNet20(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        widths = [16, 16, 16, 16, 32, 32, 32, 64, 64, 64]
        self.blocks = nn.Sequential(*(Block(a, b, 1 if a == b else 2) for a, b in zip(widths, widths[1:])))
        self.fc = nn.Linear(64, 10)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x):
        x = self.blocks(torch.relu(self.bn1(self.conv1(x))))
        return self.fc(x.mean((2, 3)))


def read(folder, names):
    raw = np.concatenate([np.fromfile(os.path.join(folder, name), np.uint8).reshape(-1, 3073) for name in names])
    return torch.from_numpy(raw[:, 1:].reshape(-1, 3, 32, 32).copy()), torch.from_numpy(raw[:, 0].astype(np.int64))


def normalized(images):
    shape = (1, 3, 1, 1)
    images = (images.float() / 255 - torch.tensor(MEAN).view(shape)) / torch.tensor(STD).view(shape)
    return images.contiguous(memory_format=torch.channels_last)


def changed(images):
    """Each image moved by -4..4 pixels both ways, black where nothing was, and half of them mirrored."""
    count = len(images)
    padded = functional.pad(images, (4, 4, 4, 4))
    top, left = torch.randint(0, 9, (count, 1, 1)), torch.randint(0, 9, (count, 1, 1))
    column = torch.arange(32).view(1, 1, 32)
    column = torch.where(torch.rand(count, 1, 1) < 0.5, 31 - column, column)
    return padded.permute(0, 2, 3, 1)[torch.arange(count).view(count, 1, 1), top + torch.arange(32).view(1, 32, 1),
                                      left + column].permute(0, 3, 1, 2)


def rate_at(step, steps):
    """cnn-train's one-cycle schedule as a share of the highest learning rate (train/schedule.c)."""
    warm = round(0.3 * steps)
    if step < warm:
        return 1 / 25 + (1 - 1 / 25) * step / warm
    return 1e-4 + (1 - 1e-4) * 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    images, labels = read(options.folder, [f"data_batch_{i}.bin" for i in range(1, 6)])
    images, labels = images[:45000], labels[:45000]
    network = ResNet20().to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), RATE, MOMENTUM, weight_decay=DECAY, nesterov=True)
    per_epoch = math.ceil(len(images) / BATCH)
    steps, step, began = per_epoch * options.epochs, 0, time.monotonic()
    for epoch in range(options.epochs):
        network.train()
        order, sum_loss = torch.randperm(len(images)), 0.0
        for first in range(0, len(images), BATCH):
            some = order[first:first + BATCH]
            for group in optimizer.param_groups:
                group["lr"] = RATE * rate_at(step, steps)
            with torch.autocast("cpu", torch.bfloat16):
                logits = network(normalized(changed(images[some])))
            loss = functional.cross_entropy(logits.float(), labels[some])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            sum_loss += loss.item()
            step += 1
            if step == 50:
                print(f"{50 * BATCH / (time.monotonic() - began):.0f} images/s", file=sys.stderr, flush=True)
        print(f"epoch {epoch + 1} of {options.epochs}: loss {sum_loss / per_epoch:.4f}, {time.monotonic() - began:.0f} s",
              file=sys.stderr, flush=True)
    network.eval()
    images, labels = read(options.folder, ["test_batch.bin"])
    with torch.inference_mode():
        right = sum((network(normalized(images[i:i + 500])).argmax(1) == labels[i:i + 500]).sum().item()
                    for i in range(0, len(images), 500))
    print(json.dumps({"torch": torch.__version__, "epochs": options.epochs, "seed": options.seed,
                      "seconds": round(time.monotonic() - began), "accuracy": right / len(images)}))


if __name__ == "__main__":
    main()
