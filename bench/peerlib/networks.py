"""A trained .cnn model as each peer wants it, with the same weights: a PyTorch module, an ONNX graph, an ncnn network.

The networks are chains. For inference batch norms are folded into the convolution before them, as every exporter does.
Peers keep images as [N, C, H, W]; our [out, h, w, in] weights become [out, in, h, w].
"""
import os
import struct

import numpy


def outputs_first(weight):
    """[out, h, w, in] as [out, in, h, w]."""
    return numpy.ascontiguousarray(weight.transpose(0, 3, 1, 2))


def bias_of(layer):
    return layer.parameters.get("bias", numpy.zeros(layer.out, numpy.float32))


def fold(layers):
    """(layer, weight, bias) of each layer but the input, in the peers' order of weights; batch norms are gone."""
    folded = []
    for layer in layers[1:]:
        if layer.type == "bn":
            before, weight, bias = folded[-1]
            p = layer.parameters
            scale = p["gamma"] / numpy.sqrt(p["running_var"] + layer.eps)
            weight = (weight * scale[:, None, None, None]).astype(numpy.float32)
            bias = ((bias - p["running_mean"]) * scale + p["beta"]).astype(numpy.float32)
            folded[-1] = (before, weight, bias)
        elif layer.type in ("conv", "linear"):
            folded.append((layer, outputs_first(layer.parameters["weight"]), bias_of(layer)))
        else:
            folded.append((layer, None, None))
    return folded


def write_onnx(layers, path):
    """FP32, any batch size."""
    import onnx
    from onnx import helper, numpy_helper
    height, width, channels = layers[0].shape
    nodes, weights, value, flat = [], [], "image", False
    for number, (layer, weight, bias) in enumerate(fold(layers)):
        names = [f"w{number}", f"b{number}"]
        if layer.type == "linear" and not flat:
            nodes.append(helper.make_node("Flatten", [value], ["flat"], axis=1))
            value, flat = "flat", True
        if layer.type == "conv":
            nodes.append(helper.make_node("Conv", [value, *names], [f"v{number}"], pads=[layer.pad] * 4,
                                          kernel_shape=[layer.kernel] * 2, strides=[layer.stride] * 2))
        elif layer.type == "linear":
            weight = weight.reshape(layer.out, -1)
            nodes.append(helper.make_node("Gemm", [value, *names], [f"v{number}"], transB=1))
        elif layer.type == "maxpool":
            nodes.append(helper.make_node("MaxPool", [value], [f"v{number}"], kernel_shape=[layer.kernel] * 2,
                                          strides=[layer.stride] * 2))
        elif layer.type == "relu":
            nodes.append(helper.make_node("Relu", [value], [f"v{number}"]))
        else:
            raise ValueError(f"no ONNX for a layer of type {layer.type}")
        if weight is not None:
            weights += [numpy_helper.from_array(array, name) for array, name in zip((weight, bias), names)]
        value = f"v{number}"
    graph = helper.make_graph(
        nodes, "network", [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["n", channels, height, width])],
        [helper.make_tensor_value_info(value, onnx.TensorProto.FLOAT, ["n", layers[-1].shape[2]])], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def write_qdq(source, path, images, activations, reduce_range):
    """Static quantization by ONNX Runtime: QDQ, weights signed and per channel; activations "U8" or "S8"."""
    import logging
    from onnxruntime import quantization
    logging.disable(logging.WARNING)  # it recommends shape inference that this graph has no use for

    class Reader(quantization.CalibrationDataReader):
        def __init__(self):
            self.batches = iter(numpy.array_split(images, max(1, len(images) // 64)))

        def get_next(self):
            batch = next(self.batches, None)
            return None if batch is None else {"image": batch}

    kinds = {"U8": quantization.QuantType.QUInt8, "S8": quantization.QuantType.QInt8}
    quantization.quantize_static(source, path, Reader(), quant_format=quantization.QuantFormat.QDQ, per_channel=True,
                                 activation_type=kinds[activations], weight_type=quantization.QuantType.QInt8,
                                 reduce_range=reduce_range and activations == "U8")


def torch_module(layers, folded):
    """With batch norms, for training, or with them folded, for inference."""
    import torch
    from torch import nn
    modules = []

    def put(module, role, array):
        getattr(module, role).data.copy_(torch.from_numpy(numpy.array(array)))

    parts = fold(layers) if folded else [(layer, None, None) for layer in layers[1:]]
    channels, flat = layers[0].shape[2], False
    for (layer, weight, bias), before in zip(parts, [None, *(part[0] for part in parts)]):
        if layer.type == "linear" and not flat:
            modules.append(nn.Flatten())
            flat = True
        if layer.type == "conv":
            has_bias = folded or layer.bias
            modules.append(nn.Conv2d(channels, layer.out, layer.kernel, layer.stride, layer.pad, bias=bool(has_bias)))
            channels = layer.out
        elif layer.type == "linear":
            before = before or layers[0]
            modules.append(nn.Linear(int(numpy.prod(before.shape)), layer.out, bias=True))
        elif layer.type == "bn":
            modules.append(nn.BatchNorm2d(channels, eps=layer.eps, momentum=layer.momentum))
        elif layer.type == "relu":
            modules.append(nn.ReLU(inplace=True))
        elif layer.type == "maxpool":
            modules.append(nn.MaxPool2d(layer.kernel, layer.stride))
        if folded and weight is not None:
            put(modules[-1], "weight", weight.reshape(tuple(modules[-1].weight.shape)))
            put(modules[-1], "bias", bias)
    return nn.Sequential(*modules)


def write_ncnn(layers, stem, scales=None):
    """STEM.param and STEM.bin, FP32, or INT8 with `scales`: 127 / the largest input of each conv and linear layer. ncnn's
    wheel holds no tools; this writes what its converter and ncnn2int8 write: ReLU fused, int8 weights by the largest
    of each output channel."""
    lines, data, blob, number = [], bytearray(), "image", 0
    height, width, channels = layers[0].shape
    lines.append(f"Input image 0 1 image 0={width} 1={height} 2={channels}")
    parts = fold(layers)
    place = 0
    while place < len(parts):
        layer, weight, bias = parts[place]
        out = f"v{place}"
        fused = layer.type in ("conv", "linear") and place + 1 < len(parts) and parts[place + 1][0].type == "relu"
        if layer.type in ("conv", "linear"):
            size = weight.size
            if layer.type == "conv":
                words = f"Convolution c{place} 1 1 {blob} {out} 0={layer.out} 1={layer.kernel} 3={layer.stride} " \
                        f"4={layer.pad} 5=1 6={size}" + (" 9=1" if fused else "") + (" 8=2" if scales else "")
            else:
                words = f"InnerProduct f{place} 1 1 {blob} {out} 0={layer.out} 1=1 2={size}" + \
                        (" 9=1" if fused else "") + (" 8=2" if scales else "")
            if scales:
                flat = weight.reshape(layer.out, -1)
                steps = 127.0 / numpy.maximum(numpy.abs(flat).max(axis=1), 1e-20)
                values = numpy.clip(numpy.rint(flat * steps[:, None]), -127, 127).astype(numpy.int8).tobytes()
                data += struct.pack("<I", 0x000D4B38) + values + b"\0" * (-len(values) % 4)
                data += bias.astype("<f4").tobytes() + steps.astype("<f4").tobytes()
                data += struct.pack("<f", scales[number])
                number += 1
            else:
                data += struct.pack("<I", 0) + weight.astype("<f4").tobytes() + bias.astype("<f4").tobytes()
        elif layer.type == "maxpool":
            words = f"Pooling p{place} 1 1 {blob} {out} 0=0 1={layer.kernel} 2={layer.stride} 5=1"
        elif layer.type == "relu":
            words = f"ReLU r{place} 1 1 {blob} {out}"
        else:
            raise ValueError(f"no ncnn for a layer of type {layer.type}")
        lines.append(words)
        blob = out
        place += 2 if fused else 1
    lines[-1] = lines[-1].replace(f" {blob}", " logits", 1)
    with open(f"{stem}.param", "w", encoding="ascii") as file:
        file.write(f"7767517\n{len(lines)} {len(lines)}\n" + "\n".join(lines) + "\n")
    with open(f"{stem}.bin", "wb") as file:
        file.write(data)


def read_images(folder, part):
    """Normalized [count, 1, height, width] of an IDX file."""
    with open(os.path.join(folder, f"{part}-images-idx3-ubyte"), "rb") as file:
        _, count, height, width = struct.unpack(">4I", file.read(16))
        pixels = numpy.frombuffer(file.read(), numpy.uint8).reshape(count, 1, height, width)
    return ((pixels / numpy.float32(255.0) - numpy.float32(0.5)) / numpy.float32(0.5)).astype(numpy.float32)


def read_labels(folder, part):
    with open(os.path.join(folder, f"{part}-labels-idx1-ubyte"), "rb") as file:
        return numpy.frombuffer(file.read(), numpy.uint8, offset=8)
