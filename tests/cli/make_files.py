"""Files for the command-line tests: data sets, pictures, damaged models. Standard library only.

    make_files.py mnist DIR                  a small data set in MNIST's files: 300 images to train, 100 to test
    make_files.py cifar10 DIR                the same in CIFAR-10's files: 5 times 40 images to train, 40 to test; photo.png is
                                             the first of those, photo-large.png the same on 96x64 pixels
    make_files.py npy FILE BATCH COUNT       the images of a batch of CIFAR-10 as a NumPy array
    make_files.py idx FILE BYTE DIM...       an IDX file of these dimensions, every byte BYTE
    make_files.py png KIND FILE              KIND: plus, seven, sevens (two), joined (a line joins them), white,
                                             huge (100,000 x 100,000), truncated
    make_files.py shapes DIR COUNT           COUNT pictures in each of 4 sub-folders, which tell shape and colour
    make_files.py flip FILE SHARE            inverts one bit of the byte at this share of the file
    make_files.py version FILE               raises a model's format version by one
    make_files.py keys KEY...                reads standard input: one JSON object with numbers under these keys
                                             ("results[0].label=x": a path, and the value it must have)
"""
import json
import os
import random
import re
import struct
import sys
import zlib


def write(path, data):
    with open(path, "wb") as file:
        file.write(data)


def idx(path, dims, data):
    write(path, struct.pack(f">I{len(dims)}I", 0x0800 + len(dims), *dims) + bytes(data))


def mnist(folder):
    """Image i shows a bar at a height that tells its class i % 10, with noise."""
    rng = random.Random(1)
    for stem, count in ("train", 300), ("t10k", 100):
        pixels = bytearray()
        for i in range(count):
            top = 2 + 2 * (i % 10)
            for y in range(28):
                ink = 200 if top <= y < top + 4 else 0
                pixels += bytes(ink + rng.randrange(50) if 4 <= x < 24 else rng.randrange(50) for x in range(28))
        idx(f"{folder}/{stem}-images-idx3-ubyte", (count, 28, 28), pixels)
        idx(f"{folder}/{stem}-labels-idx1-ubyte", (count,), (i % 10 for i in range(count)))


def cifar10(folder):
    """Image i has a colour that tells its class i % 10, with noise."""
    rng = random.Random(2)
    side = 32
    for name in [f"data_batch_{k}.bin" for k in range(1, 6)] + ["test_batch.bin"]:
        records = bytearray()
        for i in range(40):
            label = i % 10
            tint = 20 * label, 200 - 20 * label, 90 * (label % 3)
            planes = [bytes(level + rng.randrange(50) for _ in range(side * side)) for level in tint]
            records += bytes([label]) + b"".join(planes)
            if name == "test_batch.bin" and i == 0:
                pixels = [bytes(plane[at] for plane in planes) for at in range(side * side)]
                rows = [pixels[y * side : (y + 1) * side] for y in range(side)]
                write(f"{folder}/photo.png", png(side, side, [b"".join(row) for row in rows], 2))
                large = [b"".join(pixel * 3 for pixel in row) for row in rows for _ in range(2)]
                write(f"{folder}/photo-large.png", png(3 * side, 2 * side, large, 2))
        write(f"{folder}/{name}", records)
    write(f"{folder}/batches.meta.txt", ("\n".join(CIFAR_CLASSES) + "\n").encode())


def npy(path, batch, count):
    with open(batch, "rb") as file:
        records = file.read()
    pixels = bytearray()
    for i in range(count):
        planes = records[i * 3073 + 1 : (i + 1) * 3073]
        pixels += bytes(planes[c * 1024 + at] for at in range(1024) for c in range(3))
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({count}, 32, 32, 3), }}"
    write(path, b"\x93NUMPY\1\0" + struct.pack("<H", 118) + header.ljust(117).encode() + b"\n" + pixels)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, rows, kind=0):
    """8 bits; kind 0: gray, 2: RGB."""
    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def plus(x, y):
    """The sign "plus" of the data set synth."""
    return (12 <= x < 15 and 2 <= y < 25) or (12 <= y < 15 and 2 <= x < 25)


def seven(x, y):
    return (30 <= y < 40 and 20 <= x < 80) or (40 <= y < 150 and abs(x - (80 - (y - 40) * 0.4)) < 6)


def sevens(x, y, joined):
    return seven(x % 100, y) or (joined and 80 <= y < 88 and 40 <= x < 160)


def picture(kind, path):
    if kind in ("sevens", "joined"):
        data = png(200, 180, [bytes(20 if sevens(x, y, kind == "joined") else 235 for x in range(200)) for y in range(180)])
    elif kind == "plus":
        data = png(28, 28, [bytes(255 if plus(x, y) else 0 for x in range(28)) for y in range(28)])
    elif kind == "white":
        data = png(40, 30, [b"\xff" * 40] * 30)
    elif kind == "huge":
        data = png(100000, 100000, [b"\xff" * 100])
    else:
        data = png(100, 180, [bytes(20 if seven(x, y) else 235 for x in range(100)) for y in range(180)])
    write(path, data[: len(data) // 2] if kind == "truncated" else data)


CIFAR_CLASSES = "airplane automobile bird cat deer dog frog horse ship truck".split()
SHAPES = {
    "disc": lambda x, y: x * x + y * y < 1,
    "square": lambda x, y: max(abs(x), abs(y)) < 0.9,
    "cross": lambda x, y: min(abs(x), abs(y)) < 0.25 and max(abs(x), abs(y)) < 1,
}
CLASSES = {"blue cross": (30, 40, 230), "blue disc": (30, 40, 230), "red disc": (220, 30, 40), "red square": (220, 30, 40)}


def shapes(folder, count):
    """Each picture has a size, a paper and a place of its own."""
    rng = random.Random(3)
    for name, colour in CLASSES.items():
        os.makedirs(f"{folder}/{name}")
        inside = SHAPES[name.split()[1]]
        for i in range(count):
            width, height, light = rng.randrange(20, 40), rng.randrange(20, 40), rng.randrange(150, 256)
            paper, ink = bytes([light] * 3), bytes(max(0, c + rng.randrange(-30, 20)) for c in colour)
            size = min(width, height) * rng.uniform(0.3, 0.45)
            left, top = width / 2 + rng.uniform(-3, 3), height / 2 + rng.uniform(-3, 3)
            rows = [b"".join(ink if inside((x - left) / size, (y - top) / size) else paper for x in range(width))
                    for y in range(height)]
            write(f"{folder}/{name}/{i:03}.png", png(width, height, rows, 2))


def flip(path, share):
    with open(path, "rb") as file:
        data = bytearray(file.read())
    data[int(len(data) * float(share))] ^= 0x10
    write(path, data)


def newer(path):
    """The version follows the magic and is below 128: one byte."""
    with open(path, "r+b") as file:
        file.seek(VERSION_AT)
        version = file.read(1)[0]
        file.seek(VERSION_AT)
        file.write(bytes([version + 1]))


def look_up(value, path):
    for name, number in re.findall(r"([^.\[\]]+)|\[(\d+)\]", path):
        value = value[int(number)] if number else value[name]
    return value


def keys(names):
    text = sys.stdin.read()
    value = json.loads(text)  # fails unless it is one value and nothing else
    assert isinstance(value, dict), text
    for name in names:
        path, _, wanted = name.partition("=")
        found = look_up(value, path)
        if wanted:
            assert str(found) == wanted, f"{path} is {found}, not {wanted}"
        else:
            assert isinstance(found, (int, float)) and not isinstance(found, bool), f"{path} is {found!r}"


VERSION_AT = 4

if __name__ == "__main__":
    command, arguments = sys.argv[1], sys.argv[2:]
    if command == "mnist":
        mnist(arguments[0])
    elif command == "cifar10":
        cifar10(arguments[0])
    elif command == "npy":
        npy(arguments[0], arguments[1], int(arguments[2]))
    elif command == "idx":
        dims = [int(dim) for dim in arguments[2:]]
        size = 1
        for dim in dims:
            size *= dim
        idx(arguments[0], dims, bytes([int(arguments[1])]) * size)
    elif command == "png":
        picture(*arguments)
    elif command == "shapes":
        shapes(arguments[0], int(arguments[1]))
    elif command == "keys":
        keys(arguments)
    elif command == "flip":
        flip(*arguments)
    elif command == "version":
        newer(arguments[0])
    else:
        sys.exit(f"make_files.py: no command {command}")
