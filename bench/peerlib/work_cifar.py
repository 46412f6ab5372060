"""resnet20 on CIFAR-10 in PyTorch, with the recipe that bench/cifar gives cnn-train.

    work_cifar.py FOLDER --epochs N --batch N --lr R --weight-decay D [--cutout SIDE] [--device cpu|cuda] [--seed N] [--threads N]

FOLDER: of CIFAR-10's binary files. The same network, as many of the training images (the last tenth is left out; cnn-train
chooses its own), images changed in the same way (mirrored or not, moved by up to 4 pixels, what comes in from outside
mirrored, a square of SIDE pixels gray), SGD with Nesterov's momentum, decay of every weight, and learning rate of each step;
weights as torchvision begins. bf16 by autocast, channels last; on a GPU forward and backward are CUDA graphs. Random numbers are
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

MOMENTUM = 0.9
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


def read(folder, names, device):
    raw = np.concatenate([np.fromfile(os.path.join(folder, name), np.uint8).reshape(-1, 3073) for name in names])
    images, labels = torch.from_numpy(raw[:, 1:].reshape(-1, 3, 32, 32).copy()), torch.from_numpy(raw[:, 0].astype(np.int64))
    return images.to(device), labels.to(device)


class Images:
    """Images as bytes on the device, and what a network gets of them."""

    def __init__(self, device, cutout):
        self.device, self.cutout = device, cutout
        self.mean, self.deviation = (torch.tensor(of, device=device).view(1, 3, 1, 1) for of in (MEAN, STD))
        self.places = torch.arange(32, device=device)

    def normalized(self, images):
        images = (images.float() / 255 - self.mean) / self.deviation
        return images.contiguous(memory_format=torch.channels_last)

    def changed(self, images):
        """Each image moved by -4..4 pixels both ways, half of them mirrored, a square of each gray."""
        count = len(images)
        padded = functional.pad(images.float(), (4, 4, 4, 4), mode="reflect").byte()
        top, left = (torch.randint(0, 9, (count, 1, 1), device=self.device) for _ in range(2))
        column = self.places.view(1, 1, 32)
        column = torch.where(torch.rand(count, 1, 1, device=self.device) < 0.5, 31 - column, column)
        moved = padded.permute(0, 2, 3, 1)[torch.arange(count, device=self.device).view(count, 1, 1),
                                           top + self.places.view(1, 32, 1), left + column].permute(0, 3, 1, 2)
        if self.cutout:
            first = torch.randint(0, 32, (2, count, 1), device=self.device) - self.cutout // 2
            inside = (self.places >= first) & (self.places < first + self.cutout)
            moved = moved.masked_fill((inside[0].unsqueeze(2) & inside[1].unsqueeze(1)).unsqueeze(1), 128)
        return moved


def rate_at(step, steps):
    """cnn-train's one-cycle schedule as a share of the highest learning rate (train/schedule.c)."""
    warm = round(0.3 * steps)
    if step < warm:
        return 1 / 25 + (1 - 1 / 25) * step / warm
    return 1e-4 + (1 - 1e-4) * 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))


def graphed(network, options):
    """The network for batches of the full size: on a GPU forward and backward are CUDA graphs."""
    if options.device != "cuda":
        return network
    sample = torch.rand(options.batch, 3, 32, 32, device="cuda").contiguous(memory_format=torch.channels_last)
    with torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
        return torch.cuda.make_graphed_callables(network, (sample,))


def train(network, options, images, labels, form):
    plain = network.forward  # for the last batch of an epoch, which is smaller
    whole = graphed(network, options)
    optimizer = torch.optim.SGD(network.parameters(), options.lr, MOMENTUM, weight_decay=options.weight_decay, nesterov=True,
                                fused=options.device == "cuda")
    per_epoch = math.ceil(len(images) / options.batch)
    steps, step, began = per_epoch * options.epochs, 0, time.monotonic()
    for epoch in range(options.epochs):
        order, sum_loss = torch.randperm(len(images), device=options.device), torch.zeros((), device=options.device)
        for first in range(0, len(images), options.batch):
            some = order[first:first + options.batch]
            for group in optimizer.param_groups:
                group["lr"] = options.lr * rate_at(step, steps)
            with torch.autocast(options.device, torch.bfloat16, cache_enabled=False):
                logits = (whole if len(some) == options.batch else plain)(form.normalized(form.changed(images[some])))
            loss = functional.cross_entropy(logits.float(), labels[some])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            sum_loss += loss.detach()
            step += 1
            if step == 50:
                sum_loss.item()
                print(f"{50 * options.batch / (time.monotonic() - began):.0f} images/s", file=sys.stderr, flush=True)
        print(f"epoch {epoch + 1} of {options.epochs}: loss {sum_loss.item() / per_epoch:.4f}, {time.monotonic() - began:.0f} s",
              file=sys.stderr, flush=True)
    return round(time.monotonic() - began)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--lr", type=float, required=True)
    parser.add_argument("--weight-decay", type=float, required=True)
    parser.add_argument("--cutout", type=int, default=0)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    form = Images(options.device, options.cutout)
    images, labels = read(options.folder, [f"data_batch_{i}.bin" for i in range(1, 6)], options.device)
    network = ResNet20().to(options.device, memory_format=torch.channels_last)
    seconds = train(network, options, images[:45000], labels[:45000], form)
    network.eval()
    images, labels = read(options.folder, ["test_batch.bin"], options.device)
    with torch.inference_mode():
        right = sum((network(form.normalized(images[i:i + 500])).argmax(1) == labels[i:i + 500]).sum().item()
                    for i in range(0, len(images), 500))
    print(json.dumps({"torch": torch.__version__, "device": options.device, "epochs": options.epochs, "batch": options.batch,
                      "lr": options.lr, "weight_decay": options.weight_decay, "cutout": options.cutout, "seed": options.seed,
                      "seconds": seconds, "accuracy": right / len(images)}))


if __name__ == "__main__":
    main()
