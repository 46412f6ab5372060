"""Images crafted to fool a model, and what may be done about them."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ._library import api, check, choice, encode, lib
from .data import Data, as_dataset, as_images, checked, pixels
from .errors import CnnkitError

if TYPE_CHECKING:
    from .model import Model


@dataclass(frozen=True)
class Sanitizer:
    """What may undo a small change of an image, in this order: the median of 3x3 pixels; the nearest of 2**bits levels
    (0: all stay); the centre of mass moved into the middle. It stops nobody who reckons with it."""

    median: bool = False
    bits: int = 0
    centre: bool = False

    def _options(self) -> api.cnn_sanitize_options:  # type: ignore[name-defined]
        return api.cnn_sanitize_options(median=self.median, bits=self.bits, centre=self.centre)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Images after it: bytes of the same shape."""
        given = as_images(images)
        made = np.empty_like(given)
        shape = api.cnn_tensor_desc(dtype=api.CNN_I8, n=1, h=given.shape[1], w=given.shape[2], c=given.shape[3])
        shape.c_pad = given.shape[3]
        options = self._options()
        check(lib.cnn_sanitize(ctypes.byref(options), ctypes.byref(shape), pixels(given), len(given), pixels(made)))
        return made.reshape(np.shape(images))


@dataclass(frozen=True)
class Attack:
    """What an attack did to a model. Accuracies are fractions of 1."""

    clean: float  #: accuracy without an attack
    attacked: float  #: accuracy whatever the attack tried
    images: np.ndarray  #: [n, height, width, channels] bytes: where it won one that fools the model, else the last it tried
    gradients: int  #: images that one was computed for


def attack(
    model: Model,
    data: Data | None = None,
    *,
    method: str = "pgd",
    eps: float = 0.1,
    steps: int = 40,
    step: float = 0.01,
    restarts: int = 5,
    random_start: bool = True,
    source: Model | None = None,
    sanitize: Sanitizer | None = None,
    images: int | None = None,
    seed: int = 1,
    device: str = "auto",
) -> Attack:
    """Looks, for each image of the data, for one within eps of it, pixel by pixel, that the model takes for another class.

    data: a name, a Dataset or (images, labels); without, the test set of what the model was trained on; images: only the
    first so many. method: "pgd", or "fgsm", one step of eps. Pixels are in [0, 1] here: eps 0.1 is 25.5 of 255 levels.
    source: gradients are this model's (transfer); those of an INT8 model are straight-through ones. sanitize: the model
    reads sanitized images, and the attack knows. The same seed gives the same bits.
    """
    found = as_dataset(model._named(data), "test", lib.cnn_model_form(model._pointer))
    count = len(found) if images is None else images
    if not 0 <= count <= len(found):
        raise CnnkitError(f"images {images}: the data has {len(found)}")
    options = api.cnn_attack_options()
    lib.cnn_attack_options_init(ctypes.byref(options))
    options.device, options.method = encode(device), choice("method", "CNN_ATTACK", method)
    options.eps, options.steps, options.step = eps, steps, step
    options.restarts, options.random_start, options.seed = restarts, random_start, seed
    if source is not None:
        options.source = source._pointer
    if sanitize is not None:
        before = sanitize._options()
        options.sanitize = ctypes.pointer(before)
    made = np.empty((count, *found.images.shape[1:]), dtype=np.uint8)
    result = api.cnn_attack_result()
    with model._lock:
        check(
            lib.cnn_attack(
                model._pointer, checked(found), None, count, ctypes.byref(options), pixels(made), ctypes.byref(result)
            )
        )
    share = 1 / max(count, 1)
    return Attack(result.clean * share, result.attacked * share, made, result.gradients)
