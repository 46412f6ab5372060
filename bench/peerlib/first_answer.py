"""first_answer.py MODEL.onnx IMAGE.f32 THREADS: the same as ort_first.c in Python."""
import sys

import numpy
import onnxruntime

options = onnxruntime.SessionOptions()
options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
options.intra_op_num_threads = int(sys.argv[3])
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
image = numpy.fromfile(sys.argv[2], "<f4").reshape(1, 1, 28, 28)
print(int(session.run(None, {"image": image})[0].argmax()))
