"""One measuring process: a peer, a task, a network. Runs in the environment's Python and prints a JSON list of records.

    work.py prepare|train|fp32|int8 TOOL NETWORK --folder F --threads N --seconds S

How each peer is set, each the fastest that we found for it:
  PyTorch       set_num_threads(N); training: FP32 and bf16 autocast, each in both memory formats, eager and compiled by Inductor,
                gradients set to None, fused SGD (fp16 autocast has no fast kernels on CPUs and is left out);
                inference: inference_mode, batch norms folded, eager and traced (frozen, optimize_for_inference) in both memory
                formats, and compiled with frozen weights. Inductor needs g++ and Python's headers
  ONNX Runtime  every graph optimization, N intra-op threads that spin, sequential execution, inputs and outputs bound
                beforehand; INT8 as QDQ with weights per channel, activations U8 and S8
  OpenVINO      FP32 held at f32, static shapes, N threads; hint LATENCY with one request after the other, and hint THROUGHPUT with as
                many asynchronous requests as it asks for; INT8 from the same two QDQ files
  ncnn          packing, Winograd, sgemm on, 16-bit storage off; it takes one image at a time: with N threads, and for
                throughput also in N Python threads with one each
Every process warms up first, checks that the answers on 64 images are cnn-infer's, then times for S seconds per figure and
reports the median call.
"""
import argparse
import json
import os
import statistics
import sys
import time

import numpy

import cnnfile
import networks

BATCHES = [1, 64, 256]


def median_call(call, seconds):
    """Seconds of the median call, after a warm-up of a third of the time and at least three calls."""
    begin, calls = time.perf_counter(), 0
    while calls < 3 or time.perf_counter() - begin < seconds / 3:
        call()
        calls += 1
    times, begin = [], time.perf_counter()
    while len(times) < 5 or time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


class Work:
    """What a process is asked for, the network, its images, and the records so far."""

    def __init__(self, options):
        self.options, self.records = options, []
        self.layers = cnnfile.read(self.path(".cnn"))
        self.test = networks.read_images(options.folder, "t10k")
        self.want = numpy.fromfile(self.path(".logits"), "<f4").reshape(len(self.test), -1)[:64]

    def path(self, end):
        return os.path.join(self.options.folder, self.options.network + end)

    def batch(self, size):
        return numpy.ascontiguousarray(numpy.resize(self.test, (size, *self.test.shape[1:])))

    def check(self, variant, got, exact):
        """Raises when a peer computes something else: FP32 within 1e-3 of the largest logit, INT8 and 16 bits by correlation."""
        got = numpy.asarray(got, dtype=numpy.float64).reshape(-1, self.want.shape[1])
        want = self.want[:len(got)].astype(numpy.float64)
        if exact:
            error = numpy.abs(got - want).max() / numpy.abs(want).max()
            if not error < 1e-3:
                raise ValueError(f"{variant}: logits are off by {error:.2g} of the largest")
        else:
            correlation = numpy.corrcoef(got.ravel(), want.ravel())[0, 1]
            if not correlation > 0.95:
                raise ValueError(f"{variant}: logits correlate with FP32's by {correlation:.3f} only")

    def add(self, row, variant, figure, batch, value):
        self.records.append({"row": row, "variant": variant, "figure": figure, "batch": batch, "value": value})

    def time(self, row, variant, batch, images, call):
        """Times a call that infers `images` images: latency at one image, else throughput."""
        seconds = median_call(call, self.options.seconds)
        if batch == 1:
            self.add(row, variant, "latency_ms", 1, seconds * 1e3)
        else:
            self.add(row, variant, "images_per_s", batch, images / seconds)

    def fail(self, row, variant, error):
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        self.records.append({"row": row, "variant": variant, "missing": f"{type(error).__name__}: {reason}"[:200]})


def prepare(work):
    """ONNX, QDQ and ncnn files of a network; each peer that misses its own says so when it is measured."""
    source = work.path(".onnx")
    networks.write_onnx(work.layers, source)
    images = networks.read_images(work.options.folder, "train")[:256]
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        saturates = "vnni" not in file.read()  # U8S8 without VNNI adds pairs in 16 bits
    for kind in ("U8", "S8"):
        networks.write_qdq(source, work.path(f"-{kind}.onnx"), images, kind, saturates)
    networks.write_ncnn(work.layers, work.path("-ncnn"))
    networks.write_ncnn(work.layers, work.path("-ncnn-int8"), input_scales(work, images))
    import work_onnx
    work_onnx.write_optimized(work.path("-U8.onnx"), work.path("-U8-ready.onnx"))
    work.test[:1].tofile(work.path("-image.f32"))


def input_scales(work, images):
    """127 / the largest input of each conv and linear layer over some images, from ONNX Runtime."""
    import onnx
    import onnxruntime
    model = onnx.load(work.path(".onnx"))
    inputs = [node.input[0] for node in model.graph.node if node.op_type in ("Conv", "Gemm")]
    for name in inputs[1:]:
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    values = [images, *session.run(inputs[1:], {"image": images})]
    return [127.0 / float(numpy.abs(value).max()) for value in values]


def tool_modules():
    return {"PyTorch": "work_torch", "ONNX Runtime": "work_onnx", "OpenVINO": "work_openvino", "ncnn": "work_ncnn"}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("task", choices=["prepare", "train", "fp32", "int8"])
    parser.add_argument("tool")
    parser.add_argument("network")
    parser.add_argument("--folder", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    options = parser.parse_args()
    work = Work(options)
    if options.task == "prepare":
        prepare(work)
    else:
        module = __import__(tool_modules()[options.tool])
        getattr(module, options.task)(work)
    json.dump(work.records, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
