"""Reads a trained FP32 .cnn file (docs/format.md) of the layers that the peers' networks are built from.

Weights come in the file's order: conv [out, kernel, kernel, in], linear [out, height, width, in].
"""
import struct

import numpy

TYPES = ["input", "conv", "linear", "bn", "relu", "maxpool", "add", "avgpool", "globalavgpool",
         "leaky_relu", "concat", "dropout"]
ATTRIBUTES = {  # (name, default; None: always stored)
    "input": [("height", None), ("width", None), ("channels", None)],
    "conv": [("out", None), ("kernel", None), ("stride", 1), ("pad", 0), ("bias", 1), ("groups", 1)],
    "linear": [("out", None), ("bias", 1)],
    "bn": [("eps", 1e-5), ("momentum", 0.1)],
    "relu": [("max", 0)], "maxpool": [("kernel", None), ("stride", 0), ("pad", 0)], "add": [],
}
ROLES = ["weight", "bias", "gamma", "beta", "running_mean", "running_var"]


class Bytes:
    """A cursor over a part of the file."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        self.at += count
        if self.at > len(self.data):
            raise ValueError("the file ends too early")
        return self.data[self.at - count:self.at]

    def varint(self):
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def zigzag(self):
        value = self.varint()
        return value >> 1 if value % 2 == 0 else -(value >> 1) - 1


class Layer:
    """type, attributes, shape of the output [height, width, channels], parameters by role."""

    def __init__(self, kind):
        self.type, self.parameters, self.shape = kind, {}, None

    def infer(self, before):
        if self.type == "input":
            self.shape = (self.height, self.width, self.channels)
            return
        height, width, channels = before.shape
        if self.type == "conv":
            self.shape = (*((size + 2 * self.pad - self.kernel) // self.stride + 1 for size in (height, width)), self.out)
        elif self.type == "linear":
            self.shape = (1, 1, self.out)
        elif self.type == "maxpool":
            self.stride = self.stride or self.kernel
            self.shape = (*((size + 2 * self.pad - self.kernel) // self.stride + 1 for size in (height, width)), channels)
        else:
            self.shape = before.shape

    def parameter_shapes(self, before):
        if self.type == "conv":
            return {"weight": (self.out, self.kernel, self.kernel, before.shape[2] // self.groups), "bias": (self.out,)}
        if self.type == "linear":
            return {"weight": (self.out, *before.shape), "bias": (self.out,)}
        return {role: (self.shape[2],) for role in ROLES[2:]}


def read_graph(field):
    layers = []
    for _ in range(field.varint()):
        word = field.varint()
        layer = Layer(TYPES[word >> 2])
        if word & 1:
            raise ValueError("a network that is not a chain of layers")
        mask = field.varint() if word & 2 else 0
        for number, (name, default) in enumerate(ATTRIBUTES[layer.type]):
            stored = mask >> number & 1
            real = layer.type == "bn"
            setattr(layer, name, (struct.unpack("<d", field.take(8))[0] if real else field.zigzag()) if stored else default)
        layer.infer(layers[-1] if layers else None)
        layers.append(layer)
    return layers


def read_tensors(field, layers, area):
    for _ in range(field.varint()):
        number, role = field.varint(), ROLES[field.varint()]
        element, flags, _structure, encoding = (field.varint() for _ in range(4))
        if element != 1 or flags & ~1 or encoding:
            raise ValueError("not a dense FP32 model")
        for _ in range(4 if flags & 1 else 0):
            field.varint()
        payload = field.varint()
        size = payload >> 1
        if payload & 1:
            offset = field.varint()
            field.take(4)  # CRC
            values = area[offset:offset + size]
        else:
            values = field.take(size)
        shape = layers[number].parameter_shapes(layers[number - 1])[role]
        layers[number].parameters[role] = numpy.frombuffer(values, "<f4").reshape(shape)


def read(path):
    """The layers of a model, the input first."""
    with open(path, "rb") as file:
        data = file.read()
    if data[:5] != b"\x8fCNN\x01":
        raise ValueError(f"{path} is not a .cnn file of version 1")
    head = Bytes(data)
    head.take(5)
    size = head.varint()
    end = head.at + size
    area = data[-(-(end + 4) // 64) * 64:]
    fields = {}
    while head.at < end:
        tag = head.varint()
        fields[tag] = Bytes(head.take(head.varint()))
    layers = read_graph(fields[64])
    read_tensors(fields[65], layers, area)
    return layers
