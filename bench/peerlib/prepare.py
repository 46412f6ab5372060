"""What is measured on: images, and cnnkit's models of them. Python's standard library alone."""
import os
import random
import struct
import subprocess

TRAIN, TEST, SIDE = 8000, 256, 28


def picture(random_numbers, label):
    """Two bars of the class, moved a little, over noise."""
    noise = random_numbers.randbytes(SIDE * SIDE)
    rows = [[byte >> 3 for byte in noise[y * SIDE:(y + 1) * SIDE]] for y in range(SIDE)]
    down, right = random_numbers.randrange(-2, 3), random_numbers.randrange(-2, 3)
    top, left = 4 + 4 * (label % 5) + down, 4 + 4 * (label * 3 % 5) + right
    for y in range(4, 24):
        for x in range(4, 24):
            bar = top <= y < top + 3 if label < 5 else top <= (x + y) // 2 < top + 3
            if bar or left <= x < left + 3:
                rows[y][x] = 255 - rows[y][x]
    return bytes(value for row in rows for value in row)


def write_images(folder):
    """MNIST-shaped IDX files: every tool sees the same bytes, and no download decides what is measured."""
    random_numbers = random.Random(1)
    for part, count in (("train", TRAIN), ("t10k", TEST)):
        labels = bytes(number % 10 for number in range(count))
        with open(os.path.join(folder, f"{part}-images-idx3-ubyte"), "wb") as out:
            out.write(struct.pack(">4I", 0x803, count, SIDE, SIDE))
            for label in labels:
                out.write(picture(random_numbers, label))
        with open(os.path.join(folder, f"{part}-labels-idx1-ubyte"), "wb") as out:
            out.write(struct.pack(">2I", 0x801, count) + labels)
