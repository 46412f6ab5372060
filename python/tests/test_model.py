import json
import pickle
import threading

import cnnkit
import numpy as np
import pytest
from cnnkit._library import lib
from conftest import content


def test_scores_are_those_of_the_tool(trained, test_set, tool):
    trained.save("m.cnn")
    tool("cnn-infer", "-m", "m.cnn", "--test", "--data", "synth", "--logits", "scores.f32")
    expected = np.fromfile("scores.f32", dtype="<f4").reshape(-1, 10)
    scores = trained.run(test_set.images)
    assert scores.dtype == np.float32 and np.array_equal(scores, expected)
    np.testing.assert_allclose(trained.run(test_set.images[5:8, :, :, 0]), expected[5:8], atol=1e-4)


def test_devices_and_batches_agree(trained, test_set):
    images = test_set.images[:100]
    np.testing.assert_allclose(trained.run(images, device="ref"), trained.run(images, batch=7), atol=1e-3)
    small = trained.optimize(int8=True)  # to the bit
    assert np.array_equal(small.run(images, device="ref"), small.run(images, batch=7))
    assert np.array_equal(small.run(images, device="cpu:portable"), small.run(images))


def test_what_cannot_be_run_is_refused(trained):
    with pytest.raises(cnnkit.CnnkitError, match="float64: give bytes"):
        trained.run(np.zeros((1, 28, 28)))
    with pytest.raises(cnnkit.CnnkitError, match="images are 27x28x1, and the model reads 28x28x1"):
        trained.run(np.zeros((1, 27, 28), dtype=np.uint8))
    with pytest.raises(cnnkit.CnnkitError, match="2 dimensions"):
        trained.run(np.zeros((28, 28), dtype=np.uint8))
    with pytest.raises(cnnkit.CnnkitError, match="nonsense"):
        trained.run(np.zeros((1, 28, 28), dtype=np.uint8), device="nonsense")
    assert trained.run(np.zeros((0, 28, 28), dtype=np.uint8)).shape == (0, 10)


def test_evaluate(trained, test_set):
    found = trained.evaluate()
    scores = trained.run(test_set.images)
    assert found.images == 1000 and found.accuracy > 0.5
    assert found.accuracy == np.mean(scores.argmax(axis=1) == test_set.labels)
    odds = scores.astype(np.float64)
    odds -= np.log(np.exp(odds).sum(axis=1, keepdims=True))
    assert found.loss == pytest.approx(-odds[np.arange(1000), test_set.labels].mean(), rel=1e-5)
    assert trained.evaluate(test_set).accuracy == found.accuracy
    assert trained.evaluate((test_set.images, test_set.labels)).accuracy == found.accuracy
    with pytest.raises(cnnkit.CnnkitError, match="the data has 2"):
        trained.evaluate((test_set.images[:2], np.array([0, 1])))


def test_info(trained):
    info = trained.info
    assert [layer.name for layer in info.layers][:3] == ["image", "conv1", "bn1"]
    assert info.layers[1].output == (12, 12, 8) and info.layers[1].weights == 200 and info.layers[1].dtype == "f32"
    assert info.layers[1].macs == 12 * 12 * 8 * 25
    assert info.weights == sum(layer.weights for layer in info.layers)
    assert info.macs == sum(layer.macs for layer in info.layers)
    assert info.bytes == trained.save("m.cnn") == len(content("m.cnn"))
    assert info.data == "synth" and info.class_names[0] == "ring" and (info.mean, info.deviation) == ([0.5], [0.5])
    assert f"{info.weights:,}" in str(info) and "conv1" in str(info)
    assert repr(trained).startswith("<cnnkit.Model: 28x28x1 -> 10 classes")


def test_files(trained, test_set):
    scores = trained.run(test_set.images[:50])
    for name in ("m.cnn", "m.onnx"):
        assert trained.save(name) == len(content(name))
        assert np.array_equal(cnnkit.load(name).run(test_set.images[:50]), scores)
    assert trained.save("s.cnn", pack="smallest") < trained.save("r.cnn", pack="raw")
    assert np.array_equal(pickle.loads(pickle.dumps(trained)).run(test_set.images[:50]), scores)
    with pytest.raises(ValueError, match="pack 'tiny' is not known: auto, raw, smallest"):
        trained.save("m.cnn", pack="tiny")
    with pytest.raises(cnnkit.CnnkitError, match="missing/m.cnn") as failure:
        trained.save("missing/m.cnn")
    assert failure.value.status == "input/output error"
    with pytest.raises(cnnkit.CnnkitError, match="leave normalize out"):
        cnnkit.load("m.cnn", normalize=(0, 1))
    open("m.cnn", "wb").write(b"nonsense")
    with pytest.raises(cnnkit.CnnkitError, match="m.cnn"):
        cnnkit.load("m.cnn")


def test_softmax_at_the_end(trained, test_set):
    scores = trained.run(test_set.images[:50])
    model = trained.clone()
    assert not model.softmax and "softmax" not in model.cfg
    model.softmax = True
    assert model.cfg.splitlines()[-1].startswith("softmax = softmax(")
    assert cnnkit.create(model.cfg).softmax
    for name in ("m.cnn", "m.onnx"):
        model.save(name)
        assert cnnkit.load(name).softmax
        assert np.array_equal(cnnkit.load(name).run(test_set.images[:50]), scores)
    assert len(model.info.layers) == len(trained.info.layers) and not trained.softmax


def test_predict_as_the_tool(trained, tool, test_set):
    from pathlib import Path

    # lenet5 of digits, untrained: what counts is that the picture is prepared in the same way
    digits = cnnkit.train("lenet5", cnnkit.Dataset(test_set.images, test_set.labels), epochs=0.1)
    digits.save("m.cnn")
    picture = Path(__file__).parents[2] / "examples" / "digit.png"
    expected = json.loads(tool("cnn-infer", "-m", "m.cnn", picture, "--json", "--topk", "2"))["results"][0]
    found = digits.predict(picture, top=2)
    assert found.label == expected["label"] and found.probability == pytest.approx(expected["probability"], abs=1e-6)
    assert len(found.top) == 2 and found.digits == []
    with pytest.raises(cnnkit.CnnkitError, match="missing.png"):
        digits.predict("missing.png")


def test_predict_arrays(trained, test_set):
    image = test_set.images[3]
    scores = trained.run(image[np.newaxis])[0].astype(np.float64)
    found = trained.predict(image)
    assert found.label == trained.class_names[int(scores.argmax())]
    assert found.probability == pytest.approx(np.exp(scores.max()) / np.exp(scores).sum())
    assert trained.predict(image[..., 0]) == found
    # Twice as large, in colour, with alpha: fitted to the input, it is the same picture again.
    large = np.repeat(np.repeat(image[..., 0], 2, axis=0), 2, axis=1)
    assert trained.predict(large).top[0][0] == found.label
    rgba = np.dstack([large] * 3 + [np.full_like(large, 255)])
    assert trained.predict(rgba) == trained.predict(large)
    with pytest.raises(cnnkit.CnnkitError, match="is no picture"):
        trained.predict(np.zeros((5, 5, 2), dtype=np.uint8))


def test_numbers_are_read_digit_by_digit(test_set):
    model = cnnkit.create("lenet5")
    from cnnkit._library import api, check, lib
    from ctypes import byref

    mnist = api.cnn_dataset(id=api.CNN_DATASET_MNIST)  # what makes a model one of digits
    check(lib.cnn_model_set_data(model._pointer, byref(mnist)))
    page = np.full((60, 120), 255, dtype=np.uint8)
    for x in (15, 55, 95):
        page[15:45, x : x + 18] = 0
        page[19:41, x + 4 : x + 14] = 255
    found = model.predict(page)
    assert len(found.digits) == 3 and found.label == "".join(digit.label for digit in found.digits)
    assert found.probability == pytest.approx(np.prod([digit.probability for digit in found.digits]))
    with pytest.raises(cnnkit.CnnkitError, match="nothing is drawn"):
        model.predict(np.full((60, 120), 255, dtype=np.uint8))


def test_what_a_picture_points_to_lives_as_long_as_it():
    from cnnkit.model import _picture_of

    page = np.arange(60 * 120, dtype=np.uint8).reshape(60, 120)
    picture = _picture_of(page)
    others = [np.zeros((60, 120, 4), dtype=np.uint16) for _ in range(10)]
    found = np.ctypeslib.as_array(picture.rgba, shape=(60, 120, 4))
    assert np.array_equal(found[..., 1], page.astype(np.uint16) * 257) and not others[0].any()


def test_threads(trained, test_set):
    expected = trained.run(test_set.images)
    models = [trained, trained, trained.clone()]
    found = [None] * len(models)

    def work(i):
        found[i] = models[i].run(test_set.images)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(models))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(scores, expected) for scores in found)
    cnnkit.set_threads(2)
    assert np.array_equal(trained.run(test_set.images), expected)
    cnnkit.set_threads(1)


def test_networks_and_text(trained, cfg):
    assert "lenet5" in cnnkit.networks() and "convnet" in cnnkit.networks()
    again = cnnkit.create(trained.cfg)
    assert again.cfg.split("\n", 1)[1] == trained.cfg.split("\n", 1)[1]
    assert cnnkit.create(cfg, seed=1).run(np.zeros((1, 28, 28), dtype=np.uint8)).any()
    with pytest.raises(cnnkit.CnnkitError, match="the network: line 2"):
        cnnkit.create("image = input(height=2, width=2, channels=1)\nfc1 = linear(imag, out=2)\n")


def test_signed_models(trained, tool):
    trained.save("m.cnn")
    if not lib.cnn_can_sign():
        pytest.skip("a build without libsodium")
    tool("cnn-opt", "--keygen", "me")
    tool("cnn-opt", "--keygen", "you")
    tool("cnn-opt", "m.cnn", "--sign", "me.key", "-o", "signed.cnn")
    cnnkit.load("signed.cnn", require_signature="me.pub").save("again.cnn")
    assert content("again.cnn") == content("m.cnn")
    unsigned, other, foreign = ("m.cnn", "me", "not signed"), ("signed.cnn", "you", "another key"), ("m.onnx", "me", "only")
    for name, key, why in [unsigned, other, foreign]:
        with pytest.raises(cnnkit.CnnkitError, match=why):
            cnnkit.load(name, require_signature=f"{key}.pub")
