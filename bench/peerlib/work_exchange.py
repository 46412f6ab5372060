"""What bench/exchange runs in the peers' environment: files that go out are run by ONNX Runtime, and networks of PyTorch
come in. One JSON object with the task on standard input, one with the result on standard output.

  {"task": "run", "model": FILE.onnx, "images": FILE, "logits": FILE}   checks the file in full mode, runs it on the images
      (bytes [N,C,H,W] of a shape "shape") divided by 255, compares with raw float32 logits; with "plain": true node by node,
      without ONNX Runtime's optimizations
  {"task": "openvino", "model": FILE.onnx, "images": FILE, "logits": FILE}   the same by OpenVINO, in f32
  {"task": "export", "folder": DIR}        writes NET-EXPORTER-OPSET.onnx for each net, exporter and opset
  {"task": "vision", "name": NET, "exporter": E, "opset": N, "file": FILE.onnx, "picture": FILE.png}    writes one of
      torchvision's networks for ImageNet and a picture of noise; the logarithms of its probabilities by ONNX Runtime
  {"task": "torch", "weights": FILE, "logits": FILE}   writes the weights of a torch module as safetensors and its logits
  {"task": "equal", "a": FILE, "b": FILE}              whether two safetensors files hold the same tensors, bit for bit
  {"task": "beside", "logits": FILE, "theirs": FILE, "classes": N}     compares two files of logits
"""
import json
import os
import sys
import warnings

import numpy

warnings.simplefilter("ignore")


def images_of(task):
    return numpy.fromfile(task["images"], numpy.uint8).reshape(task["shape"]).astype(numpy.float32) / numpy.float32(255)


def compare(ours, theirs):
    """Largest difference of logits, and the share of equal predictions. Networks that end in a softmax give it or its
    logarithm, and cnnkit the scores before it: then those are taken the same way."""
    if theirs.min() >= 0 and abs(theirs.astype(float).sum(1) - 1).max() < 1e-4:
        odds = numpy.exp(ours.astype(float) - ours.max(1, keepdims=True))
        ours = odds / odds.sum(1, keepdims=True)
    if abs(numpy.exp(theirs.astype(float)).sum(1) - 1).max() < 1e-4:
        ours = ours - numpy.log(numpy.exp(ours.astype(float) - ours.max(1, keepdims=True)).sum(1, keepdims=True)) - ours.max(1, keepdims=True)
    return {"difference": float(numpy.abs(ours - theirs).max()),
            "agree": float((ours.argmax(1) == theirs.argmax(1)).mean()), "images": len(ours)}


def run(task):
    import onnx
    import onnxruntime
    onnx.checker.check_model(task["model"], full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if task.get("plain"):
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(task["model"], options, providers=["CPUExecutionProvider"])
    name, fixed = session.get_inputs()[0].name, session.get_inputs()[0].shape[0]
    images, results = images_of(task), []
    step = fixed if isinstance(fixed, int) else 256
    for first in range(0, len(images), step):
        results.append(session.run(None, {name: images[first:first + step]})[0])
    theirs = numpy.concatenate(results)
    return compare(numpy.fromfile(task["logits"], "<f4").reshape(theirs.shape), theirs)


def run_openvino(task):
    import openvino
    core = openvino.Core()
    compiled = core.compile_model(task["model"], "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1})
    images, results = images_of(task), []
    for first in range(0, len(images), 250):
        results.append(compiled(images[first:first + 250])[0].copy())
    theirs = numpy.concatenate(results)
    return compare(numpy.fromfile(task["logits"], "<f4").reshape(theirs.shape), theirs)


def networks():
    """Small networks as people write them, with random weights and statistics."""
    import torch
    from torch import nn

    class View(nn.Module):
        """x.view(x.size(0), -1), log_softmax at the end, dropout."""

        def __init__(self):
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(1, 8, 5, padding=2), nn.Conv2d(8, 16, 3, stride=2, bias=False)
            self.bn = nn.BatchNorm2d(16)
            self.pool, self.drop = nn.MaxPool2d(2), nn.Dropout(0.5)
            self.fc1, self.fc2 = nn.Linear(16 * 6 * 6, 32), nn.Linear(32, 10)

        def forward(self, x):
            x = self.pool(torch.relu(self.conv1(x)))
            x = torch.relu(self.bn(self.conv2(x)))
            x = self.drop(torch.relu(self.fc1(x.view(x.size(0), -1))))
            return torch.log_softmax(self.fc2(x), dim=1)

    class Residual(nn.Module):
        """Two blocks, the second one with a projection."""

        def __init__(self):
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
            self.a, self.b = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 16, 3, stride=2, padding=1)
            self.project, self.norm = nn.Conv2d(8, 16, 1, stride=2, bias=False), nn.BatchNorm2d(16)
            self.pool, self.fc = nn.MaxPool2d(3, 2, padding=1), nn.Linear(16 * 7 * 7, 10, bias=False)

        def forward(self, x):
            x = self.stem(x)
            x = torch.relu(self.a(x) + x)
            x = torch.relu(self.b(x) + self.norm(self.project(x)))
            return self.fc(torch.flatten(self.pool(x), 1))

    class Normalized(nn.Module):
        """The pixels normalized inside, a matrix product with a bias of its own, softmax."""

        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 6, 5, stride=2)
            self.weight, self.bias = nn.Parameter(torch.randn(6 * 12 * 12, 10) / 20), nn.Parameter(torch.randn(10))

        def forward(self, x):
            x = torch.relu(self.conv((x - 0.1307) / 0.3081))
            return x.flatten(1) @ self.weight + self.bias

    class Averages(nn.Module):
        """As residual networks end: an average pooling, then the mean of each channel by an adaptive pooling or by mean()."""

        def __init__(self, adaptive):
            super().__init__()
            self.conv1, self.conv2, self.pool = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 16, 3, stride=2), nn.AvgPool2d(2)
            self.end, self.fc = nn.AdaptiveAvgPool2d(1) if adaptive else None, nn.Linear(16, 10)

        def forward(self, x):
            x = torch.relu(self.conv2(self.pool(torch.relu(self.conv1(x)))))
            return self.fc(torch.flatten(self.end(x), 1) if self.end else x.mean((2, 3)))

    torch.manual_seed(1)
    nets = {"view": View(), "residual": Residual(), "normalized": Normalized(),
            "averages": Averages(True), "means": Averages(False),
            "sequential": nn.Sequential(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(),
                                        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(400, 120), nn.BatchNorm1d(120), nn.ReLU(),
                                        nn.Linear(120, 10))}
    for net in nets.values():
        for module in net.modules():
            if hasattr(module, "running_var"):
                module.running_mean.uniform_(-0.5, 0.5)
                module.running_var.uniform_(0.5, 2)
        net.eval()
    return nets


def export(task):
    import contextlib
    import logging
    import torch
    logging.disable(logging.CRITICAL)
    made, failed = [], {}
    for name, net in networks().items():
        for exporter in ("script", "dynamo"):
            for opset in (11, 13, 17, 20):
                path = os.path.join(task["folder"], f"{name}-{exporter}-{opset}.onnx")
                options = {"dynamic_axes": {"x": {0: "n"}}} if exporter == "script" else {
                    "dynamic_shapes": ({0: torch.export.Dim("n", min=2, max=4096)},)}
                try:
                    with contextlib.redirect_stdout(sys.stderr):
                        torch.onnx.export(net, (torch.rand(2, 1, 28, 28),), path, input_names=["x"], opset_version=opset,
                                          dynamo=exporter == "dynamo", **options)
                    made.append(path)
                except Exception as error:  # what torch cannot export is no result of ours
                    failed[f"{name}-{exporter}-{opset}"] = str(error).strip().splitlines()[0][:160]
    return {"made": made, "failed": failed}


def vision(task):
    import contextlib
    import logging
    import onnxruntime
    import torch
    import torchvision
    from PIL import Image
    logging.disable(logging.CRITICAL)
    torch.manual_seed(3)
    net = getattr(torchvision.models, task["name"])(weights=None).eval()
    for module in net.modules():
        if hasattr(module, "running_var"):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.5, 0.5)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            torch.onnx.export(net, (torch.rand(1, 3, 224, 224),), task["file"], input_names=["x"], opset_version=task["opset"],
                              dynamo=task["exporter"] == "dynamo")
    except Exception as error:  # what torch cannot export is no result of ours
        return {"failed": str(error).strip().splitlines()[0][:160]}
    pixels = numpy.random.default_rng(4).integers(0, 256, (224, 224, 3), numpy.uint8)
    Image.fromarray(pixels).save(task["picture"])
    session = onnxruntime.InferenceSession(task["file"], providers=["CPUExecutionProvider"])
    image = pixels.transpose(2, 0, 1)[None].astype(numpy.float32) / numpy.float32(255)
    scores = session.run(None, {"x": image})[0][0].astype(float)
    return {"log_probabilities": (scores - scores.max() - numpy.log(numpy.exp(scores - scores.max()).sum())).tolist()}


def torch_module():
    """models/lenet5.cfg, and a network with batch norms of both kinds, as PyTorch users name their parts."""
    import torch
    from torch import nn

    class LeNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(1, 6, 5, padding=2), nn.Conv2d(6, 16, 5)
            self.bn1, self.bn2 = nn.BatchNorm2d(16), nn.BatchNorm1d(120)
            self.fc1, self.fc2, self.fc3 = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)

        def forward(self, x):
            x = torch.max_pool2d(torch.relu(self.conv1(x)), 2)
            x = torch.max_pool2d(torch.relu(self.bn1(self.conv2(x))), 2)
            x = torch.relu(self.bn2(self.fc1(torch.flatten(x, 1))))
            return self.fc3(torch.relu(self.fc2(x)))

    torch.manual_seed(2)
    net = LeNet()
    for module in (net.bn1, net.bn2):
        module.running_mean.uniform_(-0.5, 0.5)
        module.running_var.uniform_(0.5, 2)
        nn.init.uniform_(module.weight, 0.5, 2)
        nn.init.uniform_(module.bias, -1, 1)
    return net.eval()


def torch_weights(task):
    import torch
    from safetensors.torch import save_file
    torch.set_num_threads(1)
    net = torch_module()
    save_file(net.state_dict(), task["weights"])
    with torch.no_grad():
        logits = torch.cat([net((torch.from_numpy(part) - 0.1307) / 0.3081) for part in numpy.array_split(images_of(task), 40)])
    logits.numpy().astype("<f4").tofile(task["logits"])
    return {}


def equal(task):
    """What both have must be equal; only the count of a batch norm's batches may be missing."""
    from safetensors.torch import load_file
    a, b = load_file(task["a"]), load_file(task["b"])
    same = all(name in b and a[name].dtype == b[name].dtype and a[name].shape == b[name].shape and bool((a[name] == b[name]).all())
               for name in a if not name.endswith("num_batches_tracked"))
    torch_module().load_state_dict(b, strict=True)
    return {"equal": same and set(b) <= set(a), "tensors": len(b)}


def beside(task):
    ours, theirs = (numpy.fromfile(task[name], "<f4").reshape(-1, task["classes"]) for name in ("logits", "theirs"))
    return compare(ours, theirs)


def main():
    task = json.load(sys.stdin)
    tasks = {"run": run, "openvino": run_openvino, "export": export, "vision": vision, "torch": torch_weights, "equal": equal,
             "beside": beside}
    answer = tasks[task["task"]](task)
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
