"""What the tests share: a small network, trained once on data that are made by formula, and the tools beside it."""

import pathlib
import struct
import subprocess
import zlib

import cnnkit
import numpy as np
import pytest
from cnnkit._library import NATIVE

NETWORK = """\
image = input(height=28, width=28, channels=1)
conv1 = conv(image, out=8, kernel=5, stride=2, bias=0)
bn1 = bn(conv1)
relu1 = relu(bn1)
pool1 = maxpool(relu1, kernel=2)
conv2 = conv(pool1, out=16, kernel=3)
relu2 = relu(conv2)
fc1 = linear(relu2, out=10)
"""


cnnkit.set_threads(1)  # results do not depend on it, and other tests have the other CPUs


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Each test runs in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def cfg(tmp_path_factory):
    path = tmp_path_factory.mktemp("network") / "small.cfg"
    path.write_text(NETWORK)
    return path


@pytest.fixture(scope="session")
def trained(cfg):
    """Right in most cases; tests must leave it as it is."""
    return cnnkit.train(cfg, "synth", epochs=3, lr=0.05)


@pytest.fixture(scope="session")
def test_set():
    return cnnkit.load_data("synth", "test")


@pytest.fixture()
def tool():
    """Runs one of the tools that come with the package."""

    def run(name, *arguments):
        command = [str(NATIVE / "bin" / name), *map(str, arguments), "--quiet", "--threads", "1"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def write_png(path, gray) -> None:
    """[height, width] bytes as a PNG."""
    height, width = gray.shape
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = zlib.compress(b"".join(b"\0" + row.tobytes() for row in gray))
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), (b"IDAT", lines), (b"IEND", b""))
    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for name, data in chunks:
            file.write(struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)))


@pytest.fixture()
def stripes(folder):
    """Pictures in folders: upright and lying stripes."""
    y, x = np.mgrid[:16, :16]
    for i in range(60):
        wave = 127 + (127 * np.sin((x if i % 2 else y) * 1.2 + i)).astype(np.int64)
        write_png(folder / "stripes" / ("upright" if i % 2 else "lying") / f"{i}.png", wave.astype(np.uint8))
    return "png:stripes"


def content(path) -> bytes:
    return pathlib.Path(path).read_bytes()
