"""Training."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import threading
from dataclasses import dataclass, field
from typing import Any, Callable, Iterator, Union

from ._library import api, check, choice, encode, lib
from .data import Data, Dataset, as_dataset, checked
from .errors import CnnkitError
from .model import Model, Path, create, networks


@dataclass(frozen=True)
class Epoch:
    """An epoch that is done. Accuracies are fractions of 1, on the images that are held out; nan when there are none."""

    epoch: int
    epochs: float
    loss: float
    val_accuracy: float
    val_loss: float
    images: int
    seconds: float
    learning_rate: float
    loss_scale: float
    skipped_steps: int

    def __str__(self) -> str:
        return (
            f"epoch {self.epoch} of {self.epochs:g}: loss {self.loss:.4f}, validation accuracy "
            f"{100 * self.val_accuracy:.2f} %, {self.images / max(self.seconds, 1e-9):.0f} images/s"
        )


@dataclass(frozen=True)
class Training:
    """What a run found out. loss is the mean of the last epoch; first_overflow a layer, or ""."""

    loss: float
    val_accuracy: float
    epochs: float
    images: int
    images_per_s: float
    skipped_steps: int
    loss_scale_min: float
    loss_scale_max: float
    first_overflow: str
    history: list[Epoch] = field(default_factory=list)


#: Called after each epoch; print shows a line. Returning False stops.
Progress = Callable[[Epoch], Any]
Amp = Union[bool, str]


def storage(amp: Amp) -> int:
    if amp in (False, None):
        return api.CNN_F32
    word = "fp16" if amp is True else str(amp)
    if word not in ("fp16", "bf16"):
        raise ValueError(f"amp '{word}' is not known: fp16, bf16, or False")
    return api.CNN_F16 if word == "fp16" else api.CNN_BF16


@contextlib.contextmanager
def _interrupts() -> Iterator[list[int]]:
    """While it lasts Ctrl-C is noted in the list: an exception cannot pass through C, and must not be lost there."""
    came: list[int] = []
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield came
        return
    signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield came
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def run(model: Model, data: Dataset, options: Any, progress: Progress | None) -> Training:
    """Trains the model itself with these options of the library."""
    history: list[Epoch] = []
    raised: list[BaseException] = []

    def step(_: Any, now: Any) -> bool:
        try:
            made = now.contents
            if interrupted or not made.epoch_done:
                return not interrupted
            history.append(Epoch(**{name: getattr(made, name) for name in Epoch.__dataclass_fields__}))
            return progress is None or progress(history[-1]) is not False
        except BaseException as error:  # noqa: BLE001 - raised again below; it cannot pass through C
            raised.append(error)
            return False

    callback = api.cnn_train_fn(step)
    options.progress = callback
    result = api.cnn_train_result()
    with model._lock, _interrupts() as interrupted:
        model._sessions.clear()  # they know the old weights
        status = lib.cnn_train(model._pointer, checked(data), ctypes.byref(options), ctypes.byref(result))
    if raised:
        raise raised[0]
    if interrupted:
        raise KeyboardInterrupt
    if status != api.CNN_ERR_CANCELLED:
        check(status)
    names = [name for name in Training.__dataclass_fields__ if name != "history"]
    values = {name: getattr(result, name) for name in names}
    values["first_overflow"] = values["first_overflow"].decode()
    return Training(**values, history=history)


def _suited(network: Model, data: Dataset, builtin: bool, seed: int) -> Model:
    """The network with as many outputs, and a built-in one with the input, that the data ask for."""
    shape = data.images.shape[1:]
    if (shape, data.classes) == (network.input_shape, network.classes) or not builtin:
        return network
    form = api.cnn_image_form(*shape)
    check(lib.cnn_model_adapt(network._pointer, ctypes.byref(form), data.classes))
    lib.cnn_model_init(network._pointer, seed)
    return network


def _start(model: Model | Path, data: Data | None, seed: int) -> tuple[Model, Dataset]:
    """What is trained, a model of its own, and on what."""
    if isinstance(model, Model):
        if model.quantized:
            raise CnnkitError("an INT8 model cannot be trained; take the model it was made from")
        form = lib.cnn_model_form(model._pointer)
        found = as_dataset(model._named(data), "train", form)
        made = model.clone()
        if found.classes != model.classes and found.images.shape[1:] == model.input_shape:
            made = _suited(made, found, True, seed)
            check(lib.cnn_model_transfer(made._pointer, model._pointer, None))
        return made, found
    made = create(model, seed=seed)
    builtin = os.fspath(model) in networks()
    form = None if builtin else lib.cnn_model_form(made._pointer)
    found = as_dataset("mnist" if data is None else data, "train", form)
    made = _suited(made, found, builtin, seed)
    lib.cnn_model_normalize_for(made._pointer, found._struct.id)
    return made, found


def train(
    model: Model | Path = "convnet",
    data: Data | None = None,
    *,
    epochs: float = 10,
    batch: int = 64,
    optimizer: str = "sgd",
    lr: float | None = None,
    momentum: float = 0.9,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    schedule: str = "constant",
    warmup: float | None = None,
    clip_norm: float = 0.0,
    label_smoothing: float = 0.0,
    ema: float = 0.0,
    amp: Amp = False,
    augment: float = 0.0,
    augmentation: str | None = None,
    adversarial: float = 0.0,
    adversarial_steps: int = 3,
    freeze: str | None = None,
    teacher: Model | None = None,
    distill: float = 0.5,
    temperature: float = 4.0,
    seed: int = 1,
    device: str = "auto",
    checkpoint: Path | None = None,
    checkpoint_every: int = 0,
    resume: bool = False,
    progress: Progress | None = None,
) -> Model:
    """Trains a network and returns it; its `training` says how that went.

    model: a built-in network ("convnet", "lenet5": `networks` lists them), a .cfg file or its text; or a Model, which
    stays as it is: training goes on from its weights, with a new last layer when the data have other classes.
    data: a name ("mnist", "png:FOLDER"), a Dataset, or (images, labels); what a Model was trained on, or mnist.

    A tenth of the images is held out to validate on, the same tenth every time. The options are those of cnn-train, which
    describes them: lr is 0.01 with sgd and 0.001 with adam and adamw; schedule is constant, cosine, step or one-cycle;
    warmup is in epochs; amp is True ("fp16") or "bf16"; augment is the share of images that are changed; adversarial how
    far a pixel, of 0 to 1, is changed to fool the network that learns. The same seed gives the same bits. progress is
    called after each epoch (print shows a line); Ctrl-C stops between two steps.
    """
    made, found = _start(model, data, seed)
    options = api.cnn_train_options()
    lib.cnn_train_options_init(ctypes.byref(options))
    options.device = encode(device)
    options.batch, options.epochs, options.seed = batch, epochs, seed
    options.optimizer = choice("optimizer", "CNN_OPTIMIZER", optimizer)
    options.learning_rate = lr if lr is not None else 0.01 if options.optimizer == api.CNN_OPTIMIZER_SGD else 0.001
    options.momentum, options.nesterov, options.weight_decay = momentum, nesterov, weight_decay
    options.schedule = choice("schedule", "CNN_SCHEDULE", schedule)
    options.warmup = -1.0 if warmup is None else warmup
    options.clip_norm, options.label_smoothing, options.ema_decay = clip_norm, label_smoothing, ema
    options.storage = storage(amp)
    options.augment, options.augmentation = augment, encode(augmentation)
    options.adversarial, options.adversarial_steps = adversarial, adversarial_steps
    options.freeze = encode(freeze)
    if teacher is not None:
        options.teacher, options.distill, options.temperature = teacher._pointer, distill, temperature
    options.checkpoint = encode(checkpoint)
    options.checkpoint_every, options.resume = checkpoint_every, resume
    made.training = run(made, found, options, progress)
    return made
