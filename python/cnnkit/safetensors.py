"""safetensors files of float arrays: a length, a header in JSON, the bytes."""

from __future__ import annotations

import json
import pathlib
import struct
from typing import Mapping

import numpy as np


def write(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
    header, at = {}, 0
    for name, array in arrays.items():
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [at, at + 4 * array.size]}
        at += 4 * array.size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for array in arrays.values():
            file.write(np.ascontiguousarray(array, dtype="<f4").tobytes())


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
    content = path.read_bytes()
    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + length])
    arrays = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = (8 + length + offset for offset in entry["data_offsets"])
            arrays[name] = np.frombuffer(content[begin:end], dtype="<f4").reshape(entry["shape"]).copy()
    return arrays
