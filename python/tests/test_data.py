import gc

import cnnkit
import numpy as np
import pytest


def test_known_data():
    data = cnnkit.load_data("synth")
    assert len(data) == 4000 and data.images.shape == (4000, 28, 28, 1) and data.labels.shape == (4000,)
    assert data.classes == 10 and data.class_names[0] == "ring" and data.note == ""
    with pytest.raises(cnnkit.CnnkitError, match="nonsense"):
        cnnkit.load_data("nonsense")
    with pytest.raises(ValueError, match="subset 'both' is not known: train, test"):
        cnnkit.load_data("synth", "both")
    with pytest.raises(cnnkit.CnnkitError, match="mnist"):
        cnnkit.load_data("mnist", dir="empty", fetch=False)


def test_images_outlive_their_data():
    images = cnnkit.load_data("synth", "test").images
    total = int(images.sum())
    gc.collect()
    cnnkit.load_data("synth")
    assert int(images.sum()) == total
    with pytest.raises(ValueError):
        images[0] = 0


def test_arrays():
    images = np.zeros((4, 5, 6), dtype=np.uint8)
    data = cnnkit.Dataset(images, [0, 1, 2, 1])
    assert data.classes == 3 and data.images.shape == (4, 5, 6, 1) and data.class_names == ["0", "1", "2"]
    assert cnnkit.Dataset(images, [0, 1, 1, 1], ["no", "yes"]).class_names == ["no", "yes"]
    assert repr(data) == "<4 images of 5x6x1, 3 classes>"
    for labels in ([0, 1], [0, 1, 2, -1], [0.0, 1, 2, 1], [0, 0, 0, 0], [0, 1, 2, 256]):
        with pytest.raises(cnnkit.CnnkitError, match="labels"):
            cnnkit.Dataset(images, labels)
    with pytest.raises(cnnkit.CnnkitError, match="2 names for 3"):
        cnnkit.Dataset(images, [0, 1, 2, 1], ["no", "yes"], classes=3)
    with pytest.raises(cnnkit.CnnkitError, match="give bytes"):
        cnnkit.Dataset(images / 255, [0, 1, 2, 1])
