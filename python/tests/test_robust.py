import cnnkit
import numpy as np
import pytest


def test_an_attack_stays_in_its_ball_and_fools(trained, test_set):
    found = trained.attack("synth", images=200, eps=0.15, steps=5, step=0.05, restarts=1)
    assert found.images.shape == (200, 28, 28, 1)
    near = np.abs(found.images.astype(int) - test_set.images[:200]).max()
    assert 30 < near <= 0.15 * 255
    answers = trained.run(test_set.images[:200]).argmax(axis=1) == test_set.labels[:200]
    assert found.clean == np.mean(answers)
    assert found.attacked < found.clean - 0.1
    fooled = trained.run(found.images).argmax(axis=1) == test_set.labels[:200]
    assert np.mean(fooled) == pytest.approx(found.attacked, abs=0.03)  # the images were rounded to bytes
    again = trained.attack("synth", images=200, eps=0.15, steps=5, step=0.05, restarts=1)
    assert np.array_equal(again.images, found.images) and again.attacked == found.attacked


def test_weaker_attacks(trained):
    common = {"images": 200, "eps": 0.1}
    small = trained.optimize(int8=True)
    pgd = small.attack(**common, steps=5, step=0.04, restarts=1)
    assert small.attack(**common, method="fgsm").attacked >= pgd.attacked
    assert small.attack(**common, steps=5, step=0.04, restarts=1, source=trained).attacked <= pgd.clean
    known = trained.attack(**common, steps=5, step=0.04, restarts=1, sanitize=cnnkit.Sanitizer(bits=1))
    assert known.attacked <= known.clean


def test_what_cannot_be_attacked(trained, test_set):
    with pytest.raises(cnnkit.CnnkitError, match="images 1001: the data has 1000"):
        trained.attack(test_set, images=1001)
    with pytest.raises(ValueError, match="method 'x' is not known: fgsm, pgd"):
        trained.attack(test_set, method="x")
    with pytest.raises(cnnkit.CnnkitError, match="eps"):
        trained.attack(test_set, images=1, eps=2.0)


def test_sanitizing(test_set):
    images = test_set.images[:20]
    two = cnnkit.Sanitizer(bits=1)(images)
    assert two.shape == images.shape and set(np.unique(two)) == {0, 255}
    assert np.array_equal(two, np.where(images >= 128, 255, 0))
    spot = np.zeros((1, 9, 9), dtype=np.uint8)
    spot[0, 4, 4] = 255
    assert cnnkit.Sanitizer(median=True)(spot).max() == 0
    corner = np.zeros((1, 9, 9), dtype=np.uint8)
    corner[0, 0:3, 0:3] = 255
    moved = cnnkit.Sanitizer(centre=True)(corner)
    assert moved[0, 3:6, 3:6].min() == 255 and moved.sum() == corner.sum()
