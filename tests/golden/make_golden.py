#!/usr/bin/env python3
"""Writes the golden losses that tests/test_golden.c compares with: 50 training steps in PyTorch.

    python3 tests/golden/make_golden.py        # needs torch and numpy; neither the build nor the tests do

Weights, images and labels come from the formulas below, which tests/test_golden.c holds too: nothing is stored but
the losses. Our layouts are NHWC and KRSC, and linear layers read values in H,W,C order; PyTorch's are NCHW and KCRS,
so weights are permuted here. RECIPES says how each network is trained, plainly or with all that an optimizer offers. It
is done in float32 and again in float64: how far these two are apart shows how much of a difference is rounding.
"""

import os
import sys

import numpy as np
import torch
import torch.nn.functional as F

STEPS, BATCH, IMAGES, CLASSES = 50, 32, 512, 10
SIDE = 28
PURPOSE_INIT, PURPOSE_SYNTH = 1, 5
SEED = 2024


def splitmix64(x):
    with np.errstate(over="ignore"):
        x = x + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def cnn_hash(seed, purpose, a, b):
    """cnn_hash of core/hash.h; a and b may be arrays."""
    a, b = np.asarray(a, dtype=np.uint64), np.asarray(b, dtype=np.uint64)
    x = splitmix64(np.uint64(seed ^ (purpose << 56)))
    x = splitmix64(x ^ a)
    return splitmix64(x ^ b)


def uniform(number, count):
    """[count] float32 in [0,1), exact: value i of parameter `number`."""
    bits = cnn_hash(SEED, PURPOSE_INIT, number, np.arange(count)) >> np.uint64(40)
    return bits.astype(np.float32) * np.float32(1 / 16777216)


def parameter(number, count, center, width):
    """center + (2u - 1)*width, each operation rounded once to float32."""
    u = uniform(number, count)
    return np.float32(center) + (np.float32(2) * u - np.float32(1)) * np.float32(width)


def data():
    """Labels [IMAGES]; images [IMAGES,SIDE,SIDE] u8: 3/4 a pattern of the class, in blocks of 4x4, and 1/4 noise. One
    image in eight shows another class than its label, so that losses stay far from 0, where relative errors blow up."""
    number, image, pixel = np.arange(IMAGES), np.arange(IMAGES)[:, None], np.arange(SIDE * SIDE)[None, :]
    labels = (cnn_hash(SEED, PURPOSE_SYNTH, number, SIDE * SIDE) % np.uint64(CLASSES)).astype(np.int64)
    shown = np.where(number % 8 == 7, (labels + number) % CLASSES, labels)
    noise = cnn_hash(SEED, PURPOSE_SYNTH, image, pixel) >> np.uint64(56)
    block = pixel // SIDE // 4 * (SIDE // 4) + pixel % SIDE // 4
    pattern = cnn_hash(SEED + 1, PURPOSE_SYNTH, np.arange(CLASSES)[:, None], block) >> np.uint64(56)
    images = ((noise + np.uint64(3) * pattern[shown]) >> np.uint64(2)).astype(np.uint8)
    return images.reshape(IMAGES, SIDE, SIDE), labels


def batch_index(step):
    return (7 * (step * BATCH + np.arange(BATCH))) % IMAGES


class Conv:
    def __init__(self, c, k, size, pad=0):
        self.fan_in, self.pad = c * size * size, pad
        self.shape = (k, size, size, c)

    def values(self, number):
        bound = np.float32(1 / np.sqrt(self.fan_in))
        k = self.shape[0]
        weight = parameter(number, int(np.prod(self.shape)), 0, bound).reshape(self.shape).transpose(0, 3, 1, 2)
        return [weight.copy(), parameter(number + 1, k, 0, bound)]

    def forward(self, x, training):
        return F.conv2d(x, self.p[0], self.p[1], padding=self.pad)


class Linear:
    def __init__(self, h, w, c, k):
        self.fan_in, self.k = h * w * c, k

    def values(self, number):
        bound = np.float32(1 / np.sqrt(self.fan_in))
        weight = parameter(number, self.k * self.fan_in, 0, bound).reshape(self.k, self.fan_in)
        return [weight, parameter(number + 1, self.k, 0, bound)]

    def forward(self, x, training):
        if x.dim() == 4:
            x = x.permute(0, 2, 3, 1).flatten(1)
        return F.linear(x, self.p[0], self.p[1])


class BatchNorm:
    def __init__(self, c):
        self.c = c

    def values(self, number):
        return [parameter(number, self.c, 1, 0.5), parameter(number + 1, self.c, 0, 0.25)]

    def forward(self, x, training):
        return F.batch_norm(x, self.mean, self.var, self.p[0], self.p[1], training, 0.1, 1e-5)


class ReLU:
    def forward(self, x, training):
        return F.relu(x)


class MaxPool:
    def forward(self, x, training):
        return F.max_pool2d(x, 2)


NETWORKS = {
    "lenet5": [Conv(1, 6, 5, 2), ReLU(), MaxPool(), Conv(6, 16, 5), ReLU(), MaxPool(),
               Linear(5, 5, 16, 120), ReLU(), Linear(1, 1, 120, 84), ReLU(), Linear(1, 1, 84, 10)],
    "convnet-narrow": [Conv(1, 8, 5, 2), BatchNorm(8), ReLU(), MaxPool(), Conv(8, 16, 5, 2), BatchNorm(16), ReLU(),
                       MaxPool(), Linear(7, 7, 16, 32), ReLU(), Linear(1, 1, 32, 10)],
}


def sgd(lr=0.01, **options):
    return lambda parameters: torch.optim.SGD(parameters, lr=lr, momentum=0.9, **options)


def adam(kind, lr, **options):
    return lambda parameters: kind(parameters, lr=lr, **options)


# File: network, optimizer, label smoothing, largest gradient norm, decay of the averages that are evaluated.
RECIPES = {
    "lenet5": ("lenet5", sgd(), 0, None, None),
    "convnet-narrow": ("convnet-narrow", sgd(), 0, None, None),
    "lenet5-sgd": ("lenet5", sgd(0.05, nesterov=True, weight_decay=0.01), 0.1, 0.75, None),
    "convnet-narrow-ema": ("convnet-narrow", sgd(), 0, None, 0.8),
    "lenet5-adam": ("lenet5", adam(torch.optim.Adam, 0.002, betas=(0.8, 0.99), eps=1e-6, weight_decay=0.01), 0, 0.5, None),
    "lenet5-adamw": ("lenet5", adam(torch.optim.AdamW, 0.001, weight_decay=0.5), 0.2, None, 0.9),
}


def average(averages, values, decay, updates):
    """Moves each average towards its value; the first steps move further (TensorFlow's ExponentialMovingAverage)."""
    decay = min(decay, (1 + updates) / (10 + updates))
    with torch.no_grad():
        for mean, value in zip(averages, values):
            mean.mul_(decay).add_(value, alpha=1 - decay)


def train(layers, recipe, dtype):
    """Losses of STEPS steps, after them mean loss and correct answers over all images in inference mode, and how many
    steps were clipped."""
    _, make_optimizer, smoothing, norm, decay = recipe
    parameters, number = [], 0
    for layer in layers:
        if not hasattr(layer, "values"):
            continue
        layer.p = [torch.tensor(v, dtype=dtype, requires_grad=True) for v in layer.values(number)]
        number += 2
        parameters += layer.p
        if isinstance(layer, BatchNorm):
            layer.mean, layer.var = torch.zeros(layer.c, dtype=dtype), torch.ones(layer.c, dtype=dtype)
    optimizer = make_optimizer(parameters)
    statistics = [s for layer in layers if isinstance(layer, BatchNorm) for s in (layer.mean, layer.var)]
    averages = [v.detach().clone() for v in parameters + statistics]
    images, labels = data()
    x = torch.tensor(images).to(dtype)[:, None] / 255
    x, y = (x - 0.5) / 0.5, torch.tensor(labels)

    def run(index, training, smoothing=0):
        value = x[index]
        for layer in layers:
            value = layer.forward(value, training)
        return F.cross_entropy(value, y[index], label_smoothing=smoothing), int((value.argmax(1) == y[index]).sum())

    losses, clipped = [], 0
    for step in range(STEPS):
        loss, _ = run(torch.tensor(batch_index(step)), True, smoothing)
        optimizer.zero_grad()
        loss.backward()
        if norm:
            clipped += torch.nn.utils.clip_grad_norm_(parameters, norm).item() > norm
        optimizer.step()
        if decay:
            average(averages, parameters + statistics, decay, step)
        losses.append(loss.item())
    with torch.no_grad():
        if decay:
            for value, mean in zip(parameters + statistics, averages):
                value.copy_(mean)
        loss, correct = run(torch.arange(IMAGES), False)
    return losses, loss.item(), correct, clipped


def main():
    torch.set_num_threads(1)
    folder = os.path.dirname(os.path.abspath(__file__))
    for name, recipe in RECIPES.items():
        single, single_loss, correct, clipped = train(NETWORKS[recipe[0]], recipe, torch.float32)
        double, double_loss, double_correct, _ = train(NETWORKS[recipe[0]], recipe, torch.float64)
        assert correct == double_correct
        with open(os.path.join(folder, name + ".txt"), "w") as file:
            file.write(f"# {name}: step, loss in float32, loss in float64; PyTorch {torch.__version__}, "
                       "tests/golden/make_golden.py\n")
            for step, (a, b) in enumerate(zip(single, double)):
                file.write(f"{step} {a:.9g} {b:.12g}\n")
            file.write("# inference on all images after the last step: loss in float32, in float64, correct answers\n")
            file.write(f"{single_loss:.9g} {double_loss:.12g} {correct}\n")
        apart = max(abs(a - b) / b for a, b in zip(single + [single_loss], double + [double_loss]))
        print(f"{name}: loss {single[0]:.4f} -> {single[-1]:.4f}, {correct}/{IMAGES} correct, {clipped} steps clipped; "
              f"float32 and float64 differ by at most {apart:.2e}")


if __name__ == "__main__":
    sys.exit(main())
