"""Data sets: those that cnnkit knows, pictures in folders, and arrays."""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Sequence, Tuple, Union

import numpy as np

from ._library import Owned, api, check, choice, encode, lib, made_by
from .errors import CnnkitError

#: What stands for data: a name ("mnist", "png:FOLDER"), a Dataset, or (images, labels).
Data = Union[str, "Dataset", Tuple[np.ndarray, np.ndarray]]


def as_images(images: np.ndarray, what: str = "images") -> np.ndarray:
    """[n, height, width, channels] bytes, contiguous."""
    array = np.asarray(images)
    if array.dtype != np.uint8:
        raise CnnkitError(
            f"{what} are of type {array.dtype}: give bytes from 0 to 255 (uint8), which the model normalizes itself"
        )
    if array.ndim == 3:
        array = array[..., np.newaxis]
    if array.ndim != 4:
        raise CnnkitError(f"{what} have {array.ndim} dimensions: give [n, height, width] or [n, height, width, channels]")
    return np.ascontiguousarray(array)


def pixels(array: np.ndarray):  # type: ignore[no-untyped-def]
    return array.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))


class Dataset:
    """Images and labels in memory.

    `Dataset(images, labels)` takes arrays: images are bytes [n, height, width] or [n, height, width, channels], labels
    numbers from 0. `load_data` makes one of a name.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        class_names: Sequence[str] | None = None,
        classes: int | None = None,
    ) -> None:
        self._images = as_images(images)
        found = np.asarray(labels)
        count = len(self._images)
        if found.shape != (count,) or found.dtype.kind not in "iu" or count == 0:
            raise CnnkitError(f"labels must be {count} whole numbers, one for each image, and there must be some")
        classes = classes or (len(class_names) if class_names else int(found.max()) + 1)
        if found.min() < 0 or found.max() >= classes or not 2 <= classes <= 256:
            raise CnnkitError(f"labels run from {found.min()} to {found.max()}: classes are 2 to 256, numbered from 0")
        if class_names and len(class_names) != classes:
            raise CnnkitError(f"{len(class_names)} names for {classes} classes")
        self._labels = np.ascontiguousarray(found, dtype=np.uint8)
        made = api.cnn_dataset(id=api.CNN_DATASET_NONE, classes=classes)
        made.count, made.height, made.width, made.channels = self._images.shape
        made.images, made.labels = pixels(self._images), pixels(self._labels)
        if class_names:
            self._names = (ctypes.c_char_p * classes)(*[name.encode() for name in class_names])
            made.class_names = self._names
        self._struct = made

    @classmethod
    def _loaded(cls, pointer) -> Dataset:  # type: ignore[no-untyped-def]
        self = cls.__new__(cls)
        self._owned = Owned(pointer, lib.cnn_dataset_free)
        self._struct = made = pointer.contents
        shape = (made.count, made.height, made.width, made.channels)
        self._images = self._view(made.images, shape)
        self._labels = self._view(made.labels, shape[:1])
        return self

    def _view(self, pointer, shape: tuple) -> np.ndarray:  # type: ignore[no-untyped-def]
        """The library's memory as an array that keeps it alive."""
        address = ctypes.cast(pointer, ctypes.c_void_p).value
        memory = (ctypes.c_uint8 * int(np.prod(shape, dtype=np.int64))).from_address(address)
        memory.owner = self._owned
        array = np.frombuffer(memory, dtype=np.uint8).reshape(shape)
        array.flags.writeable = False
        return array

    @property
    def images(self) -> np.ndarray:
        """Bytes [n, height, width, channels]."""
        return self._images

    @property
    def labels(self) -> np.ndarray:
        """Numbers of classes [n]."""
        return self._labels

    @property
    def classes(self) -> int:
        return self._struct.classes

    @property
    def class_names(self) -> list[str]:
        """Names where there are any, else numbers."""
        names = [lib.cnn_dataset_label_name(ctypes.byref(self._struct), i) for i in range(self.classes)]
        return [str(i) if name is None else name.decode() for i, name in enumerate(names)]

    @property
    def note(self) -> str:
        """A sentence where the data are not what their name promises, else ""."""
        return self._struct.note.decode()

    def __len__(self) -> int:
        return self._struct.count

    def __repr__(self) -> str:
        made = self._struct
        return f"<{len(self)} images of {made.height}x{made.width}x{made.channels}, {self.classes} classes>"


def load_data(
    name: str,
    subset: str = "train",
    *,
    dir: str | os.PathLike[str] | None = None,
    fetch: bool = True,
    image_shape: tuple[int, int, int] | None = None,
    prepare: str | None = None,
) -> Dataset:
    """Loads the "train" or the "test" part of a data set.

    name: "mnist", "fashion-mnist", "synth" (made by formula, needs no files) and others that cnn-train knows, or
    "png:FOLDER", PNG pictures with one sub-folder a class. Files are looked for in `dir`, else $CNN_DATA, else the
    user's cache, and fetched when they are missing. Pictures are made into image_shape (height, width, channels) and
    prepared by "resize" or as a "digit".
    """
    options = api.cnn_dataset_options(dir=encode(dir), fetch=fetch)
    if image_shape:
        options.form.height, options.form.width, options.form.channels = image_shape
    if prepare:
        options.form.preparation = choice("preparation", "CNN_PREPARE", prepare)
    warn = type(options.warn)(lambda _, sentence: print(f"cnnkit: {sentence.decode()}", file=sys.stderr))
    options.warn = warn
    part = choice("subset", "CNN_SUBSET", subset)
    return Dataset._loaded(made_by(lib.cnn_dataset_load, encode(name), part, ctypes.byref(options)))


def as_dataset(data: Data, subset: str = "train", form=None) -> Dataset:  # type: ignore[no-untyped-def]
    """What stands for data as a Dataset; pictures in folders become images of that form."""
    if isinstance(data, Dataset):
        return data
    if isinstance(data, str):
        if form is None or not data.startswith("png:"):
            return load_data(data, subset)
        prepare = "digit" if form.preparation == api.CNN_PREPARE_DIGIT else "resize"
        return load_data(data, subset, image_shape=(form.height, form.width, form.channels), prepare=prepare)
    images, labels = data
    return Dataset(images, labels)


def checked(data: Dataset):  # type: ignore[no-untyped-def]
    return ctypes.byref(data._struct)


__all__ = ["Data", "Dataset", "load_data", "check"]
