"""The command-line tools that come with the package."""

from __future__ import annotations

import os
import sys

from ._library import NATIVE


def _run(name: str) -> None:
    path = str(NATIVE / "bin" / name)
    os.execv(path, [path, *sys.argv[1:]])


def train() -> None:
    _run("cnn-train")


def opt() -> None:
    _run("cnn-opt")


def infer() -> None:
    _run("cnn-infer")
