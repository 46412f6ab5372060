import os

import cnnkit
import numpy as np
import pytest
from conftest import content


@pytest.mark.parametrize(
    "options, arguments",
    [
        ({"prune": 0.5, "int8": True, "finetune": 0.5}, "--prune 0.5 --int8 --finetune 0.5"),
        (
            {"prune": 0.7, "structure": "weight", "criterion": "lamp", "over_all_layers": True, "finetune": 0.5,
             "int8": True, "bits": "auto:4", "amp": True, "distill": 0.5},
            "--prune 0.7 --structure weight --criterion lamp --global --finetune 0.5 --int8 --bits auto:4 --amp --distill=0.5",
        ),
        ({"keep": "conv1=5,conv2=9", "finetune": 0, "int8": True, "equalize": True},
         "--keep conv1=5,conv2=9 --finetune 0 --int8 --equalization on"),
        ({"prune": 0.5, "structure": "block", "finetune": 0}, "--prune 0.5 --structure block --finetune 0"),
    ],
)  # fmt: skip
def test_the_file_is_that_of_the_tool(trained, tool, options, arguments):
    trained.save("m.cnn")
    trained.optimize(**options).save("ours.cnn")
    tool("cnn-opt", "m.cnn", *arguments.split(), "-o", "tool.cnn")
    assert content("ours.cnn") == content("tool.cnn")


def test_stages(trained, test_set):
    seen = []
    before = trained.state_dict()
    small = trained.optimize(prune=0.5, int8=True, finetune=1, progress=seen.append)
    assert [stage.name for stage in seen] == ["as given", "prune 50 %", "fine-tune 1 epoch", "INT8"]
    assert small.stages == seen and small.quantized and small.data == "synth"
    assert seen[-1].bytes == small.save("m.cnn") < seen[0].bytes / 4
    assert seen[-1].macs == small.info.macs < seen[0].macs
    assert seen[0].accuracy == pytest.approx(trained.training.val_accuracy, abs=1e-9)
    assert small.evaluate().accuracy > 0.5
    assert all(np.array_equal(value, before[name]) for name, value in trained.state_dict().items())
    assert [layer.dtype for layer in small.info.layers if layer.macs] == ["i8"] * 3
    assert "conv1" not in cnnkit.load("m.cnn").info.layers[0].name


def test_weights_that_are_pruned_are_counted(trained):
    sparse = trained.optimize(prune=0.75, structure="weight", finetune=0)
    for layer in sparse.info.layers:
        if layer.macs:
            assert layer.zeros >= 0.6 * layer.weights


def test_arrays_of_ones_own(trained, test_set):
    small = trained.optimize((test_set.images, test_set.labels), prune=0.5, int8=True, finetune=0.5)
    assert small.quantized and small.evaluate("synth").images == 1000


NETWORK = """\
image = input(height=8, width=8, channels=1)
fc1 = linear(image, out=32)
relu1 = relu(fc1)
fc2 = linear(relu1, out=2)
"""


@pytest.mark.skipif(not os.environ.get("CNNKIT_TESTS_ALL"), reason="it takes a minute: CNNKIT_TESTS_ALL=1 runs it")
def test_a_search(stripes):
    model = cnnkit.train(NETWORK, stripes, epochs=60, lr=0.05)
    best = model.optimize(stripes, target_size=1000, int8=True, finetune=1, structure="channel")
    assert best.quantized and best.save("m.cnn") <= 1000 < model.save("t.cnn")
    assert [stage.name for stage in best.stages] == ["before", "after"]
    assert best.stages[1].bytes == best.save("m.cnn")


def test_searches_that_are_refused(trained):
    with pytest.raises(cnnkit.CnnkitError, match="data that have a name"):
        trained.optimize((np.zeros((20, 28, 28), dtype=np.uint8), np.arange(20) % 10), max_drop=1)
    with pytest.raises(cnnkit.CnnkitError, match="cnn-opt: option --device: device 'nonsense' is not known"):
        trained.optimize(max_drop=1, int8=True, device="nonsense")


def test_pictures_in_folders(stripes):
    model = cnnkit.train(NETWORK, stripes, epochs=60, lr=0.05)
    assert model.evaluate(stripes).accuracy == 1 and model.data == "pictures" and model.class_names == ["lying", "upright"]
    assert model.predict("stripes/upright/7.png").label == "upright"
    assert model.optimize(stripes, int8=True).evaluate(stripes).accuracy == 1


def test_what_is_refused(trained):
    with pytest.raises(cnnkit.CnnkitError, match="nothing to do"):
        trained.optimize()
    with pytest.raises(cnnkit.CnnkitError, match="already INT8"):
        trained.optimize(int8=True).optimize(int8=True)
    with pytest.raises(ValueError, match="structure 'row' is not known: channel, block, weight, 2:4"):
        trained.optimize(prune=0.5, structure="row")
    with pytest.raises(ValueError, match="observer 'best'"):
        trained.optimize(int8=True, observer="best")
    with pytest.raises(cnnkit.CnnkitError, match="conv9"):
        trained.optimize(keep="conv9=3")
    with pytest.raises(cnnkit.CnnkitError):
        trained.optimize(prune=1.5)
