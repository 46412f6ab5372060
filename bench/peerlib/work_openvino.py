"""OpenVINO: inference in FP32 and INT8."""
import openvino

from work import BATCHES


def compiled(path, size, threads, hint):
    core = openvino.Core()
    model = core.read_model(path)
    shape = model.input(0).partial_shape
    model.reshape([size, *(shape[axis].get_length() for axis in (1, 2, 3))])
    return core.compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": hint,
                                             "INFERENCE_PRECISION_HINT": "f32"})


def requests_in_turn(model, batch):
    """A call that lets the model's best number of requests run once each, side by side."""
    count = model.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
    requests = [model.create_infer_request() for _ in range(count)]
    for request in requests:
        request.set_input_tensor(openvino.Tensor(batch.copy()))
        request.infer()

    def call():
        """Each request runs four times: whoever is done starts again."""
        for _ in range(4):
            for request in requests:
                request.wait()
                request.start_async()
        for request in requests:
            request.wait()
    return count * 4, call


def measure(work, row, variant, path, exact):
    threads = work.options.threads
    try:
        work.check(variant, next(iter(compiled(path, 64, threads, "LATENCY")(work.batch(64)).values())), exact)
        for size in BATCHES:
            request = compiled(path, size, threads, "LATENCY").create_infer_request()
            request.set_input_tensor(openvino.Tensor(work.batch(size)))
            work.time(row, f"{variant}LATENCY", size, size, request.infer)
        for size in BATCHES[1:]:
            count, call = requests_in_turn(compiled(path, size, threads, "THROUGHPUT"), work.batch(size))
            work.time(row, f"{variant}THROUGHPUT", size, size * count, call)
    except Exception as error:
        work.fail(row, variant, error)


def fp32(work):
    measure(work, "FP32", "", work.path(".onnx"), exact=True)


def int8(work):
    for kind in ("U8", "S8"):
        measure(work, "INT8", f"{kind}S8, ", work.path(f"-{kind}.onnx"), exact=False)
