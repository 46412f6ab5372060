"""ONNX Runtime: inference in FP32 and INT8."""
import onnxruntime

from work import BATCHES


def make_session(path, threads):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def write_optimized(source, path):
    """The graph after optimization, for programs that start and answer once."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = path
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def measure(work, row, variant, path, exact):
    try:
        session = make_session(path, work.options.threads)
        output = session.get_outputs()[0].name
        work.check(variant, session.run([output], {"image": work.batch(64)})[0], exact)
        for size in BATCHES:
            binding = session.io_binding()
            binding.bind_ortvalue_input("image", onnxruntime.OrtValue.ortvalue_from_numpy(work.batch(size)))
            binding.bind_output(output, "cpu")
            work.time(row, variant, size, size, lambda: session.run_with_iobinding(binding))
    except Exception as error:
        work.fail(row, variant, error)


def fp32(work):
    measure(work, "FP32", "", work.path(".onnx"), exact=True)


def int8(work):
    for kind in ("U8", "S8"):
        measure(work, "INT8", f"{kind}S8", work.path(f"-{kind}.onnx"), exact=False)
