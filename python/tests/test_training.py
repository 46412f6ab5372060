import math
import signal
import threading

import cnnkit
import numpy as np
import pytest
from conftest import content


def test_the_file_is_that_of_the_tool(cfg, tool):
    options = {"epochs": 1.5, "schedule": "one-cycle", "lr": 0.1, "amp": True, "augment": 0.5, "seed": 3}
    cnnkit.train(cfg, "synth", **options).save("ours.cnn")
    arguments = "--epochs 1.5 --schedule one-cycle --lr 0.1 --amp --augment 0.5 --seed 3".split()
    tool("cnn-train", "--model", cfg, "--data", "synth", *arguments, "-o", "tool.cnn")
    assert content("ours.cnn") == content("tool.cnn")
    cnnkit.train(cfg, "synth", epochs=0.5, optimizer="adamw", label_smoothing=0.1).save("ours.cnn")
    arguments = "--epochs 0.5 --optimizer adamw --label-smoothing 0.1".split()
    tool("cnn-train", "--model", cfg, "--data", "synth", *arguments, "-o", "tool.cnn")
    assert content("ours.cnn") == content("tool.cnn")


def test_progress_and_result(cfg):
    seen = []
    model = cnnkit.train(cfg, "synth", epochs=2, amp="fp16", progress=seen.append)
    found = model.training
    assert [epoch.epoch for epoch in seen] == [1, 2] and found.history == seen
    assert found.epochs == 2 and found.images == 7200 and found.val_accuracy == seen[-1].val_accuracy
    assert found.loss == seen[-1].loss < seen[0].loss and found.loss_scale_max == 65536 and found.first_overflow == ""
    assert str(seen[0]).startswith("epoch 1 of 2: loss ")


def test_stopping(cfg):
    model = cnnkit.train(cfg, "synth", epochs=5, progress=lambda epoch: epoch.epoch < 2)
    assert len(model.training.history) == 2

    def fail(epoch):
        raise KeyError("from the callback")

    with pytest.raises(KeyError, match="from the callback"):
        cnnkit.train(cfg, "synth", epochs=5, progress=fail)


def test_ctrl_c_stops_between_steps(cfg):
    timer = threading.Timer(0.3, signal.raise_signal, [signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        cnnkit.train(cfg, "synth", epochs=1000)
    timer.join()


def test_training_goes_on_from_a_model(trained, cfg):
    before = trained.state_dict()
    more = trained.train(epochs=1, lr=0.01)
    assert not np.array_equal(more.state_dict()["fc1.weight"], before["fc1.weight"])
    assert all(np.array_equal(value, before[name]) for name, value in trained.state_dict().items())
    frozen = cnnkit.train(trained, epochs=0.2, freeze="conv1,bn1").state_dict()
    assert np.array_equal(frozen["conv1.weight"], before["conv1.weight"])
    with pytest.raises(cnnkit.CnnkitError, match="conv9"):
        trained.train(epochs=0.1, freeze="conv9")


def test_a_new_head_for_other_classes(trained, test_set):
    two = cnnkit.Dataset(test_set.images, test_set.labels % 2, ["even", "odd"])
    model = trained.train(two, epochs=0.1, freeze="conv1,bn1,conv2")
    assert model.classes == 2 and model.class_names == ["even", "odd"] and model.data is None
    assert np.array_equal(model.state_dict()["conv1.weight"], trained.state_dict()["conv1.weight"])
    model.save("two.cnn")
    assert cnnkit.load("two.cnn").class_names == ["even", "odd"]
    with pytest.raises(cnnkit.CnnkitError, match="name them"):
        model.evaluate()


def test_built_in_networks_suit_the_data():
    images = np.random.default_rng(1).integers(0, 256, (60, 32, 32, 3), dtype=np.uint8)
    model = cnnkit.train("lenet5", (images, np.arange(60) % 3), epochs=1)
    assert model.input_shape == (32, 32, 3) and model.classes == 3
    assert math.isfinite(model.training.loss)


def test_a_teacher(trained, cfg):
    pupil = cnnkit.train(cfg, "synth", epochs=0.5, teacher=trained, distill=0.9)
    alone = cnnkit.train(cfg, "synth", epochs=0.5)
    assert not np.array_equal(pupil.state_dict()["fc1.weight"], alone.state_dict()["fc1.weight"])


def test_what_is_refused(trained, cfg):
    with pytest.raises(ValueError, match="optimizer 'lion' is not known: sgd, adam, adamw"):
        cnnkit.train(cfg, "synth", optimizer="lion")
    with pytest.raises(ValueError, match="amp 'fp8' is not known"):
        cnnkit.train(cfg, "synth", amp="fp8")
    with pytest.raises(cnnkit.CnnkitError, match="epochs -1"):
        cnnkit.train(cfg, "synth", epochs=-1)
    with pytest.raises(cnnkit.CnnkitError, match="32x32x1"):
        cnnkit.train(cfg, (np.zeros((20, 32, 32), dtype=np.uint8), np.arange(20) % 10))
    with pytest.raises(cnnkit.CnnkitError, match="INT8"):
        trained.optimize(int8=True).train()
