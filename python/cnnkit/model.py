"""Models: making, reading, running, saving."""

from __future__ import annotations

import ctypes
import os
import pathlib
import re
import tempfile
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Mapping, Sequence, Union

import numpy as np

from . import safetensors
from ._library import Owned, api, check, choice, encode, free, lib, made_by
from .data import Data, Dataset, as_dataset, as_images, checked, pixels
from .errors import CnnkitError

if TYPE_CHECKING:
    from .optimizing import Stage
    from .robust import Attack
    from .training import Training

Path = Union[str, "os.PathLike[str]"]
#: How pixels in [0, 1] are normalized: (mean, deviation), each a number or one for each channel.
Normalize = Any

CHUNK_IMAGES = 512  # between two chances to be interrupted


@dataclass(frozen=True)
class Prediction:
    """What a picture shows. `digits` are those of a number that was read digit by digit."""

    label: str
    probability: float
    top: list[tuple[str, float]]
    digits: list[Prediction] = field(default_factory=list)


@dataclass(frozen=True)
class Evaluation:
    """How well a model does on a data set; accuracy is a fraction of 1."""

    accuracy: float
    loss: float
    images: int
    images_per_s: float


@dataclass(frozen=True)
class Layer:
    """A node of the network: output is (height, width, channels), dtype "f32", "i8" or "none"."""

    name: str
    type: str
    output: tuple[int, int, int]
    weights: int
    zeros: int
    macs: int
    dtype: str


@dataclass(frozen=True)
class Info:
    """What a model is: its layers, stored weights, multiply-accumulates of one image, bytes as a .cnn file."""

    layers: list[Layer]
    weights: int
    macs: int
    bytes: int
    quantized: bool
    input_shape: tuple[int, int, int]
    classes: int
    class_names: list[str]
    data: str | None
    mean: list[float]
    deviation: list[float]

    def __str__(self) -> str:
        rows = [("layer", "type", "output", "weights", "MACs", "dtype")]
        for layer in self.layers:
            shape = "x".join(map(str, layer.output))
            rows.append((layer.name, layer.type, shape, f"{layer.weights:,}", f"{layer.macs:,}", layer.dtype))
        rows.append(("all", "", "", f"{self.weights:,}", f"{self.macs:,}", f"{self.bytes:,} bytes"))
        widths = [max(len(row[i]) for row in rows) for i in range(6)]
        return "\n".join(
            "  ".join(cell.ljust(width) if i < 3 or i == 5 else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths)))
            .rstrip()
            for row in rows
        )


class Model:
    """A network with its weights.

    Made by `load`, `create`, `train`, `from_torch`. What is derived of it (`optimize`, `train`) is a new model.
    """

    #: What training found out, where this model was trained here.
    training: Training | None = None
    #: What each pass of optimize() left.
    stages: list[Stage]

    def __init__(self, pointer: Any) -> None:
        self._owned = Owned(pointer, lib.cnn_model_free)
        self._sessions: dict[tuple[str, int], Owned] = {}
        self._lock = threading.Lock()
        self.stages = []

    @property
    def _pointer(self) -> Any:
        return self._owned.pointer

    def clone(self) -> Model:
        """A copy that shares nothing."""
        return Model(made_by(lib.cnn_model_clone, self._pointer))

    # ---- What it is ----

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of an image."""
        desc = lib.cnn_model_input(self._pointer)
        return desc.h, desc.w, desc.c

    @property
    def classes(self) -> int:
        return lib.cnn_model_output(self._pointer).c

    @property
    def class_names(self) -> list[str]:
        """Names where there are any, else numbers."""
        names = [lib.cnn_model_class_name(self._pointer, i) for i in range(self.classes)]
        return [str(i) if name is None else name.decode() for i, name in enumerate(names)]

    @property
    def data(self) -> str | None:
        """Name of the data set it was trained on; "pictures" for folders of them, None when it is not known."""
        name = lib.cnn_dataset_name(lib.cnn_model_dataset(self._pointer))
        return name.decode() if name else None

    @property
    def quantized(self) -> bool:
        """Whether it is INT8."""
        return lib.cnn_model_is_quantized(self._pointer)

    @property
    def softmax(self) -> bool:
        """Whether the network ends in a softmax, as its .cfg or ONNX file says; files that are written do then. run() gives
        the scores before it all the same, and predict() probabilities."""
        return lib.cnn_model_softmax(self._pointer)

    @softmax.setter
    def softmax(self, ends_in_one: bool) -> None:
        lib.cnn_model_set_softmax(self._pointer, ends_in_one)

    @property
    def cfg(self) -> str:
        """The network as the text of a .cfg file."""
        text = made_by(lib.cnn_model_print, self._pointer)
        try:
            return text.value.decode()
        finally:
            free(text)

    @property
    def info(self) -> Info:
        normalization = lib.cnn_model_normalization(self._pointer)
        channels = self.input_shape[2]
        layers = []
        for i in range(lib.cnn_model_layer_count(self._pointer)):
            made = lib.cnn_model_layer(self._pointer, i)
            layers.append(
                Layer(
                    name=made.name.decode(),
                    type=made.type.decode(),
                    output=(made.output.h, made.output.w, made.output.c),
                    weights=made.weights,
                    zeros=made.zeros,
                    macs=made.macs,
                    dtype=lib.cnn_dtype_name(made.dtype).decode() if made.dtype else "none",
                )
            )
        return Info(
            layers=layers,
            weights=lib.cnn_model_weight_count(self._pointer),
            macs=lib.cnn_model_macs(self._pointer),
            bytes=self.save("/dev/null"),
            quantized=self.quantized,
            input_shape=self.input_shape,
            classes=self.classes,
            class_names=self.class_names,
            data=self.data,
            mean=list(normalization.mean)[:channels],
            deviation=list(normalization.std)[:channels],
        )

    def __repr__(self) -> str:
        kind = "INT8" if self.quantized else "FP32"
        shape = "x".join(map(str, self.input_shape))
        weights = lib.cnn_model_weight_count(self._pointer)
        return f"<cnnkit.Model: {shape} -> {self.classes} classes, {weights:,} weights, {kind}>"

    # ---- Running ----

    def _session(self, device: str, batch: int) -> Any:
        key = (device, batch)
        if key not in self._sessions:
            options = api.cnn_session_options(device=encode(device), batch=batch)
            pointer = made_by(lib.cnn_session_open, self._pointer, ctypes.byref(options))
            self._sessions[key] = Owned(pointer, lib.cnn_session_close, keeps=self._owned)
        return self._sessions[key].pointer

    def run(self, images: np.ndarray, *, device: str = "auto", batch: int = 64) -> np.ndarray:
        """Scores (before softmax) of images: float32 [n, classes].

        images: bytes [n, height, width, channels], or [n, height, width] of one channel, as they come from a file; the
        model normalizes them itself.
        """
        given = as_images(images)
        if given.shape[1:] != self.input_shape:
            raise CnnkitError(f"images are {_x(given.shape[1:])}, and the model reads {_x(self.input_shape)}")
        scores = np.empty((len(given), self.classes), dtype=np.float32)
        with self._lock:
            session = self._session(device, batch)
            for at in range(0, len(given), CHUNK_IMAGES):
                part = given[at : at + CHUNK_IMAGES]
                into = scores[at : at + len(part)].ctypes.data_as(ctypes.POINTER(ctypes.c_float))
                check(lib.cnn_session_infer(session, pixels(part), len(part), into))
        return scores

    def predict(self, picture: Path | np.ndarray, *, top: int = 3, device: str = "auto") -> Prediction:
        """What a picture shows, a PNG file or an array.

        An array of the model's own input shape is taken as it is. Any other, [height, width] of gray or
        [height, width, 3 or 4] bytes, is prepared as a file is: fitted to the input, or for models of digits found,
        cropped and centred as in MNIST, and several digits side by side read as a number.
        """
        images = self._prepare(picture)
        guesses = [self._guess(row, top) for row in self.run(images, device=device).astype(np.float64)]
        if len(guesses) == 1:
            return guesses[0]
        label = "".join(guess.label for guess in guesses)
        probability = float(np.prod([guess.probability for guess in guesses]))
        return Prediction(label, probability, [(label, probability)], guesses)

    def _guess(self, scores: np.ndarray, top: int) -> Prediction:
        odds = np.exp(scores - scores.max())
        odds /= odds.sum()
        names = self.class_names
        best = [(names[i], float(odds[i])) for i in np.argsort(-odds, kind="stable")[: max(top, 1)]]
        return Prediction(best[0][0], best[0][1], best)

    def _prepare(self, picture: Path | np.ndarray) -> np.ndarray:
        """[n, height, width, channels]: one image, or one for each digit."""
        form = lib.cnn_model_form(self._pointer)
        if isinstance(picture, np.ndarray):
            if picture.shape == self.input_shape or (*picture.shape, 1) == self.input_shape:
                return picture.reshape(1, *self.input_shape)
            made, name = _picture_of(picture), "the array"
        else:
            made, name = api.cnn_picture(), os.fspath(picture)
            check(lib.cnn_picture_read(encode(name), ctypes.byref(made)))
        try:
            if form.preparation == api.CNN_PREPARE_DIGIT:
                return _digits_of(made, name)
            image = np.empty((1, form.height, form.width, form.channels), dtype=np.uint8)
            check(lib.cnn_picture_prepare(ctypes.byref(made), encode(name), ctypes.byref(form), pixels(image)))
            return image
        finally:
            if not isinstance(picture, np.ndarray):
                lib.cnn_picture_free(ctypes.byref(made))

    def evaluate(self, data: Data | None = None, *, device: str = "auto") -> Evaluation:
        """Accuracy and loss on data; without, on the test set of what it was trained on."""
        form = lib.cnn_model_form(self._pointer)
        found = as_dataset(self._named(data), "test", form)
        return self._evaluate(found, None, device)

    def _named(self, data: Data | None) -> Data:
        if data is not None:
            return data
        if self.data in (None, "pictures"):
            raise CnnkitError("the model does not say where the data are that it was trained on: name them")
        return self.data  # type: ignore[return-value]

    def _evaluate(self, data: Dataset, index: np.ndarray | None, device: str) -> Evaluation:
        """On the images of index (int32), or on all."""
        order = np.arange(len(data), dtype=np.int32) if index is None else np.ascontiguousarray(index, dtype=np.int32)
        correct, loss, begin = 0, 0.0, time.perf_counter()
        with self._lock:
            session = self._session(device, 64)
            for at in range(0, len(order), CHUNK_IMAGES):
                part = order[at : at + CHUNK_IMAGES]
                right, mean = ctypes.c_int64(), ctypes.c_double()
                numbers = part.ctypes.data_as(ctypes.POINTER(ctypes.c_int32))
                check(lib.cnn_session_evaluate(session, checked(data), numbers, len(part), right, mean))
                correct += right.value
                loss += mean.value * len(part)
        count, seconds = len(order), time.perf_counter() - begin
        return Evaluation(correct / count, loss / count, count, count / seconds)

    def attack(self, data: Data | None = None, **options: Any) -> Attack:
        """How well it stands images that were made to fool it: see cnnkit.attack."""
        from .robust import attack

        return attack(self, data, **options)

    # ---- Deriving and saving ----

    def optimize(self, data: Data | None = None, **options: Any) -> Model:
        """A smaller, faster model: see cnnkit.optimize."""
        from .optimizing import optimize

        return optimize(self, data, **options)

    def train(self, data: Data | None = None, **options: Any) -> Model:
        """Trains on: see cnnkit.train."""
        from .training import train

        return train(self, data, **options)

    def save(self, path: Path, *, pack: str = "auto") -> int:
        """Writes a .cnn, .onnx or .safetensors file, as its name ends; returns its bytes.

        pack, of .cnn files: "auto", "raw", or "smallest", which takes longer to read and leaves names out. A file that
        existed stays whole when this fails.
        """
        written, name = ctypes.c_size_t(), encode(path)
        ending = os.fspath(path).lower().rpartition(".")[2]
        if ending == "onnx":
            check(lib.cnn_onnx_save(self._pointer, name, written))
        elif ending == "safetensors":
            check(lib.cnn_safetensors_save(self._pointer, name, written))
        else:
            kind = choice("pack", "CNN_PACK", pack)
            check(lib.cnn_model_save_packed(self._pointer, name, kind, written))
        return written.value

    def state_dict(self) -> dict[str, np.ndarray]:
        """The weights of a float model under PyTorch's names, in PyTorch's order of dimensions."""
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "weights.safetensors")
            self.save(path)
            return safetensors.read(path)

    def __reduce__(self) -> Any:
        """Models can be pickled and sent to other processes."""
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "model.cnn")
            self.save(path)
            return _from_bytes, (path.read_bytes(),)


def _from_bytes(content: bytes) -> Model:
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "model.cnn")
        path.write_bytes(content)
        return load(path)


def _x(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def _picture_of(array: np.ndarray) -> Any:
    """A picture of the library in memory of NumPy."""
    shape = array.shape
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and shape[2] not in (1, 3, 4)) or 0 in shape:
        raise CnnkitError(
            f"{array.dtype} {list(shape)} is no picture: give bytes [height, width] or [height, width, 1, 3 or 4]"
        )
    rgba = np.full((shape[0], shape[1], 4), 65535, dtype=np.uint16)
    colours = array.reshape(shape[0], shape[1], -1).astype(np.uint16) * 257
    rgba[..., : 4 if colours.shape[2] == 4 else 3] = colours
    made = api.cnn_picture(width=shape[1], height=shape[0])
    made.rgba = rgba.ctypes.data_as(ctypes.POINTER(ctypes.c_uint16))
    made.owner = rgba  # a pointer in a struct keeps nothing alive
    return made


def _digits_of(picture: Any, name: str) -> np.ndarray:
    digits = api.cnn_digits()
    check(lib.cnn_picture_prepare_digits(ctypes.byref(picture), encode(name), ctypes.byref(digits)))
    try:
        found = [np.frombuffer(digits.digit[i].pixels, dtype=np.uint8) for i in range(digits.count)]
        return np.stack(found).reshape(-1, api.CNN_DIGIT_SIDE, api.CNN_DIGIT_SIDE, 1)
    finally:
        lib.cnn_digits_free(ctypes.byref(digits))


def _normalization(normalize: Normalize) -> Any:
    """(mean, deviation) as the library has it."""
    made = api.cnn_normalization()
    for values, into in zip(normalize, (made.mean, made.std)):
        numbers = np.atleast_1d(np.asarray(values, dtype=np.float32))
        if len(numbers) not in (1, 2, 3, 4):
            raise CnnkitError("normalize is (mean, deviation), each a number or one for each channel")
        for c in range(4):
            into[c] = numbers[min(c, len(numbers) - 1)]
    return made


# ---- Making and reading ----


def load(path: Path, *, normalize: Normalize = None, require_signature: Path | None = None) -> Model:
    """Reads a .cnn file, or a network in an .onnx file.

    normalize: of an .onnx file, what was done to pixels in [0, 1] outside of it, as in (0.1307, 0.3081); nothing unless
    it is given.
    require_signature: a public key's file, NAME.pub: a file that it did not sign, or that was changed since, is refused
    before it is read.
    """
    name = encode(path)
    if os.fspath(path).lower().endswith(".onnx"):
        if require_signature is not None:
            raise CnnkitError(f"{os.fspath(path)}: only .cnn files are signed, and a signature is asked for")
        given = None if normalize is None else ctypes.byref(_normalization(normalize))
        return Model(made_by(lib.cnn_onnx_load, name, given))
    if normalize is not None:
        raise CnnkitError(f"{os.fspath(path)} says itself how pixels are normalized: leave normalize out")
    if require_signature is not None:
        return Model(made_by(lib.cnn_model_load_signed, name, encode(require_signature)))
    return Model(made_by(lib.cnn_model_load, name))


def networks() -> list[str]:
    """Names of the built-in networks."""
    names, found = lib.cnn_model_builtin_names(), []
    while names[len(found)]:
        found.append(names[len(found)].decode())
    return found


def create(network: Path, *, seed: int = 1) -> Model:
    """A new network with random weights: a built-in name, the path of a .cfg file, or the text of one."""
    text = os.fspath(network)
    if "\n" in text:
        pointer = made_by(lib.cnn_model_parse, text.encode(), b"the network")
    else:
        pointer = made_by(lib.cnn_model_create, encode(text))
    model = Model(pointer)
    lib.cnn_model_init(model._pointer, seed)
    return model


def from_torch(
    module: Any,
    network: Path | None = None,
    *,
    input_shape: tuple[int, int, int] | None = None,
    normalize: Normalize = None,
) -> Model:
    """A model with the weights of a torch.nn.Module or its state_dict.

    network: a built-in name, the path of a .cfg file or its text; its layers are named like the module's, or for
    nn.Sequential stand in the same order. Without one the module itself is exported, by torch.onnx, for images of
    input_shape (height, width, channels).
    normalize: how the module's pixels in [0, 1] are normalized, as in (0.1307, 0.3081); ([0.485, 0.456, 0.406], [0.229,
    0.224, 0.225]) has a number for each channel. Without, the network's own: (0.5, 0.5), or none for an exported module.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            if network is None:
                return load(_export(module, input_shape, pathlib.Path(folder, "module.onnx")), normalize=normalize)
            path = pathlib.Path(folder, "module.safetensors")
            safetensors.write(path, _arrays(module if isinstance(module, Mapping) else module.state_dict()))
            model = create(network)
            check(lib.cnn_safetensors_load(encode(path), model._pointer))
        except CnnkitError as error:  # which names a file that nobody knows
            raise CnnkitError(re.sub(r"\S*/module\.\w+", "the module", str(error)), error.status) from None
    if normalize is not None:
        check(lib.cnn_model_set_normalization(model._pointer, ctypes.byref(_normalization(normalize))))
    return model


def _arrays(state: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Tensors (or arrays) as float32; counters of batches are left out."""
    made = {}
    for name, value in state.items():
        if not name.endswith("num_batches_tracked"):
            tensor = value.detach().cpu().float().numpy() if hasattr(value, "detach") else value
            made[name] = np.asarray(tensor, dtype=np.float32)
    return made


def _export(module: Any, input_shape: tuple[int, int, int] | None, path: pathlib.Path) -> pathlib.Path:
    """The module as ONNX."""
    if isinstance(module, Mapping):
        raise CnnkitError("a state_dict holds no network: name one, or give the module")
    if input_shape is None:
        raise CnnkitError("give input_shape, the (height, width, channels) of the images that the module reads")
    import importlib.util
    import warnings

    import torch

    if not importlib.util.find_spec("onnx"):
        raise CnnkitError("exporting a module takes the package onnx (pip install onnx); or name the network it has")
    height, width, channels = input_shape
    was_training = module.training
    module.eval()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter that needs nothing but torch is the older one
            image = torch.zeros(1, channels, height, width)
            # Batch norms stay, as training on needs them.
            keep = {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
            torch.onnx.export(module, (image,), str(path), opset_version=17, dynamo=False, **keep)
    finally:
        module.train(was_training)
    return path


