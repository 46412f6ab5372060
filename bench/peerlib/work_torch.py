"""PyTorch: training in FP32 and bf16 autocast, inference in FP32."""
import itertools
import shutil

import torch

import networks
from work import BATCHES, median_call

FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def train_step(work, layout, half, compiled):
    """A function that takes one step on the next batch: what cnn-train does, from bytes in memory to new weights."""
    torch.manual_seed(1)
    model = networks.torch_module(work.layers, folded=False).to(memory_format=FORMATS[layout]).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, fused=True)
    if compiled:
        model = torch.compile(model, dynamic=False)
    loss_of = torch.nn.CrossEntropyLoss()
    images = torch.from_numpy(networks.read_images(work.options.folder, "train"))
    labels = torch.from_numpy(networks.read_labels(work.options.folder, "train").astype("int64"))
    order = itertools.cycle(torch.randperm(len(images))[:len(images) // 64 * 64].split(64))

    def step():
        index = next(order)
        batch = images[index].contiguous(memory_format=FORMATS[layout])
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            loss = loss_of(model(batch), labels[index])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss
    return step


def train(work):
    torch.set_num_threads(work.options.threads)
    for half, compiled, layout in itertools.product((False, True), (False, True), FORMATS):
        row = ("bf16" if half else "FP32") + (", compiled" if compiled else "")
        try:
            if compiled and not shutil.which("g++"):
                raise OSError("no C++ compiler for Inductor")
            seconds = median_call(train_step(work, layout, half, compiled), work.options.seconds)
            work.add(row, layout, "images_per_s", 64, 64 / seconds)
        except Exception as error:  # a peer that fails is a row of the table
            work.fail(row, layout, error)


def inference_models(work):
    """(name, memory format, function that makes the model for a batch)."""
    model = networks.torch_module(work.layers, folded=True).eval()
    for layout, memory in FORMATS.items():
        placed = networks.torch_module(work.layers, folded=True).eval()
        placed.load_state_dict(model.state_dict())
        placed = placed.to(memory_format=memory)
        yield f"eager, {layout}", memory, lambda batch, placed=placed: placed
        yield f"traced, {layout}", memory, lambda batch, placed=placed: torch.jit.optimize_for_inference(
            torch.jit.freeze(torch.jit.trace(placed, batch)))
    if shutil.which("g++"):
        yield "compiled", torch.contiguous_format, lambda batch: torch.compile(model, dynamic=False, options={"freezing": True})


def fp32(work):
    torch.set_num_threads(work.options.threads)
    with torch.inference_mode():
        for name, memory, make in inference_models(work):
            try:
                check = torch.from_numpy(work.batch(64)).contiguous(memory_format=memory)
                work.check(name, make(check)(check).numpy(), exact=True)
                for size in BATCHES:
                    batch = torch.from_numpy(work.batch(size)).contiguous(memory_format=memory)
                    model = make(batch)
                    work.time("FP32", name, size, size, lambda: model(batch))
            except Exception as error:
                work.fail("FP32", name, error)
