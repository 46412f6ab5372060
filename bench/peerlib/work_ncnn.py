"""ncnn: inference in FP32 and INT8, one image at a time."""
from concurrent.futures import ThreadPoolExecutor

import ncnn
import numpy

from work import BATCHES


def make_net(stem, threads):
    net = ncnn.Net()
    net.opt.num_threads = threads
    net.opt.use_winograd_convolution = True
    net.opt.use_sgemm_convolution = True
    net.opt.use_packing_layout = True
    net.opt.use_int8_inference = True
    for name in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage", "use_vulkan_compute"):
        if hasattr(net.opt, name):
            setattr(net.opt, name, False)
    if net.load_param(f"{stem}.param") or net.load_model(f"{stem}.bin"):
        raise ValueError("the network does not load")
    return net


def infer(net, image):
    extractor = net.create_extractor()
    extractor.input("image", image)
    return extractor.extract("logits")[1]


def measure(work, row, stem, exact):
    threads = work.options.threads
    try:
        net = make_net(stem, threads)
        mats = [ncnn.Mat(image).clone() for image in work.batch(64)]
        work.check("", numpy.stack([numpy.array(infer(net, mat)) for mat in mats]), exact)
        work.time(row, f"{threads} threads an image", 1, 1, lambda: infer(net, mats[0]))

        def turn(net, part):
            for mat in part:
                infer(net, mat)

        work.time(row, f"{threads} threads an image", 64, 64, lambda: turn(net, mats))
        single = make_net(stem, 1)
        with ThreadPoolExecutor(threads) as pool:
            parts = [mats[number::threads] for number in range(threads)]
            work.time(row, "1 thread an image", 64, 64, lambda: list(pool.map(lambda part: turn(single, part), parts)))
    except Exception as error:
        work.fail(row, "", error)


def fp32(work):
    measure(work, "FP32", work.path("-ncnn"), exact=True)


def int8(work):
    measure(work, "INT8", work.path("-ncnn-int8"), exact=False)
