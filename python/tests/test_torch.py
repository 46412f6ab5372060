"""Weights under PyTorch's names; where torch is installed, torch itself."""

import pathlib
import runpy

import cnnkit
import numpy as np
import pytest


def test_a_state_dict_goes_out_and_comes_back(trained, cfg, test_set):
    state = trained.state_dict()
    assert state["conv1.weight"].shape == (8, 1, 5, 5) and state["bn1.running_var"].shape == (8,)
    state["bn1.num_batches_tracked"] = np.array(3)
    back = cnnkit.from_torch({"module." + name: value for name, value in state.items()}, cfg)
    assert np.array_equal(back.run(test_set.images[:20]), trained.run(test_set.images[:20]))
    other = cnnkit.from_torch(state, cfg, normalize=(0.1307, 0.3081))
    assert other.info.mean == [pytest.approx(0.1307)] and other.info.deviation == [pytest.approx(0.3081)]
    with pytest.raises(cnnkit.CnnkitError, match="the module: layer conv1: weight must be"):
        cnnkit.from_torch(state, "lenet5")
    with pytest.raises(cnnkit.CnnkitError, match="holds no network"):
        cnnkit.from_torch(state)
    with pytest.raises(cnnkit.CnnkitError, match="INT8"):
        trained.optimize(int8=True).state_dict()


def test_modules():
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnx")
    torch.manual_seed(1)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.BatchNorm2d(8), torch.nn.ReLU(), torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(8, 8, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(8 * 8 * 6, 5),
    )  # fmt: skip
    net(torch.rand(16, 3, 20, 16))  # statistics of the batch norm
    images = np.random.default_rng(1).integers(0, 256, (30, 20, 16, 3), dtype=np.uint8)
    mean, deviation = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
    pixels = (torch.from_numpy(images).float() / 255 - torch.from_numpy(mean)) / torch.from_numpy(deviation)
    expected = net.eval()(pixels.permute(0, 3, 1, 2)).detach().numpy()
    net.train()
    exported = cnnkit.from_torch(net, input_shape=(20, 16, 3), normalize=(mean, deviation))
    assert net.training and any(layer.type == "bn" for layer in exported.info.layers)
    np.testing.assert_allclose(exported.run(images), expected, atol=1e-4)
    named = cnnkit.from_torch(net, exported.cfg, normalize=(mean, deviation))
    np.testing.assert_allclose(named.run(images), expected, atol=1e-4)
    with pytest.raises(cnnkit.CnnkitError, match="give input_shape"):
        cnnkit.from_torch(net)
    with pytest.raises(cnnkit.CnnkitError, match="Tanh"):
        cnnkit.from_torch(torch.nn.Sequential(torch.nn.Tanh(), torch.nn.Flatten()), input_shape=(4, 4, 1))


def test_the_example(capsys):
    pytest.importorskip("torch")
    pytest.importorskip("onnx")
    example = pathlib.Path(__file__).parents[1] / "examples" / "torch_to_cnnkit.py"
    runpy.run_path(str(example), run_name="__main__")
    assert "INT8" in capsys.readouterr().out
    assert cnnkit.load("small.cnn").quantized
