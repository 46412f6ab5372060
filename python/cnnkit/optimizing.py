"""Making a trained model small and fast."""

from __future__ import annotations

import ctypes
import json
import os
import pathlib
import subprocess
import tempfile
from dataclasses import dataclass
from typing import Any, Callable

import numpy as np

from ._library import NATIVE, api, check, choice, encode, free, lib
from .data import Data, Dataset, as_dataset, checked
from .errors import CnnkitError
from .model import Model, load
from .training import Amp, Progress, run, storage


@dataclass(frozen=True)
class Stage:
    """The model after a pass: accuracy on the images that are held out, a fraction of 1; bytes as a .cnn file."""

    name: str
    accuracy: float
    bytes: int
    weights: int
    macs: int

    def __str__(self) -> str:
        return f"{self.name}: {100 * self.accuracy:.2f} %, {self.bytes:,} bytes, {self.macs:,} MACs"


PRUNE = {
    "channel": lib.cnn_prune_channels,
    "block": lib.cnn_prune_blocks,
    "weight": lib.cnn_prune_weights,
    "2:4": lib.cnn_prune_two_of_four,
}
SENSITIVITY_IMAGES = 512


class _Passes:
    """A model on its way through the passes, and what they share."""

    def __init__(self, model: Model, data: Dataset, device: str, seed: int, progress: Any) -> None:
        self.model, self.data = model.clone(), data
        self.device, self.seed, self.progress = device, seed, progress
        if self.model.data is None:  # what came from elsewhere knows its data from now on
            check(lib.cnn_model_set_data(self.model._pointer, checked(data)))
        split = api.cnn_split()
        check(lib.cnn_model_split(self.model._pointer, checked(data), ctypes.byref(split)))
        self.validation = np.array(split.validation[: split.validation_count], dtype=np.int32)
        lib.cnn_split_free(ctypes.byref(split))
        self.stages: list[Stage] = []

    def note(self, name: str) -> None:
        """Measures the model as it is now."""
        model = self.model
        model._sessions.clear()
        some = len(self.validation) > 0
        accuracy = model._evaluate(self.data, self.validation, self.device).accuracy if some else float("nan")
        weights, macs = lib.cnn_model_weight_count(model._pointer), lib.cnn_model_macs(model._pointer)
        self.stages.append(Stage(name, accuracy, model.save("/dev/null"), weights, macs))
        if self.progress:
            self.progress(self.stages[-1])


def optimize(
    model: Model,
    data: Data | None = None,
    *,
    prune: float | None = None,
    keep: str | None = None,
    structure: str | None = None,
    criterion: str | None = None,
    over_all_layers: bool = False,
    finetune: float | None = None,
    int8: bool = False,
    bits: int | str | None = None,
    observer: str = "auto",
    percentile: float = 99.99,
    rounding: str = "nearest",
    codebook: int = 0,
    bias_correction: bool = True,
    equalize: bool = False,
    compact: bool = False,
    lr: float | None = None,
    batch: int = 64,
    optimizer: str = "sgd",
    amp: Amp = False,
    augment: float | None = None,
    augmentation: str | None = None,
    distill: float = 0.0,
    temperature: float = 4.0,
    max_drop: float | None = None,
    target_size: int | None = None,
    seed: int = 1,
    device: str = "auto",
    progress: Callable[[Stage], Any] | None = None,
) -> Model:
    """Prunes, trains on, folds batch norms, quantizes: a new model, with what each pass left in its `stages`.

    data: what the model was trained on, unless given; pruning is decided and INT8 calibrated on training images, accuracy
    measured on those that are held out.
    prune: the share to remove, of what structure says: "channel" (unless it is given), "block" (16 outputs x 4 inputs),
    "weight" or "2:4". keep leaves exact widths instead, "conv1=7,fc1=30".
    finetune: epochs behind pruning; without, as many as suit the network (1 to 10).
    int8: quantize. bits (2 to 8, "conv1=8,fc1=3" or "auto:3.5") makes weights take fewer levels, trained when there is
    fine-tuning.
    max_drop, in points of accuracy, or target_size, in bytes: search for the smallest model that loses at most so
    much, or the most accurate one of that size. cnn-opt does that, on data that have a name.

    The other options are those of cnn-opt, which describes them. progress is called with each Stage (print shows a line).
    """
    if max_drop is not None or target_size is not None:
        return _search(model, data, max_drop, target_size, int8, structure, finetune, seed, device)
    structure = structure or "channel"
    if structure == "2:4" and prune is None:
        prune = 0.5
    if prune is None and keep is None and finetune is None and not int8:
        raise CnnkitError("nothing to do: give prune (such as 0.5), int8=True, or both")
    if model.quantized:
        raise CnnkitError("the model is already INT8; take the one that it was made from")
    form = lib.cnn_model_form(model._pointer)
    passes = _Passes(model, as_dataset(model._named(data), "train", form), device, seed, progress)
    pointer, found = passes.model._pointer, checked(passes.data)
    average = float(bits[5:]) if isinstance(bits, str) and bits.startswith("auto:") else None
    if bits is not None and average is None:
        check(lib.cnn_set_bits(pointer, str(bits).encode()))
    pruned = prune is not None or keep is not None
    epochs = finetune if finetune is not None else lib.cnn_finetune_epochs(pointer, checked(passes.data)) if pruned else 0.0
    training = _training(model, passes, lr, batch, optimizer, amp, augment, augmentation, distill, temperature)
    training.epochs = epochs

    passes.note("as given")
    if pruned:
        _prune(passes, prune, keep, structure, criterion, over_all_layers)
        passes.note(f"prune {100 * prune:g} %" if prune is not None else f"keep {keep}")
    if epochs > 0:
        if bits is not None:
            _choose_bits(passes, average)
            average = None
            check(lib.cnn_qat_begin(pointer, 127))
        run(passes.model, passes.data, training, None)
        check(lib.cnn_qat_end(pointer))
        passes.note(f"fine-tune {epochs:g} epoch{'' if epochs == 1 else 's'}")
    _fold(passes, int8)
    if structure == "weight":
        check(lib.cnn_remove_dead(pointer, None))
    if int8:
        _choose_bits(passes, average)
        if equalize:
            check(lib.cnn_equalize(pointer, found, seed, encode(device), None))
        options = api.cnn_quantize_options()
        lib.cnn_quantize_options_init(ctypes.byref(options))
        options.observer = choice("observer", "CNN_OBSERVER", observer)
        options.rounding = choice("rounding", "CNN_ROUNDING", rounding)
        options.percentile, options.codebook = percentile, codebook
        options.bias_correction, options.compact = bias_correction, compact
        options.seed, options.device = seed, encode(device)
        check(lib.cnn_quantize(pointer, found, ctypes.byref(options), None, None))
    passes.note("INT8" if int8 else "end")
    passes.model.stages = passes.stages
    return passes.model


def _training(
    model: Model,
    passes: _Passes,
    lr: float | None,
    batch: int,
    optimizer: str,
    amp: Amp,
    augment: float | None,
    augmentation: str | None,
    distill: float,
    temperature: float,
) -> Any:
    """Options of the library for fine-tuning."""
    options = api.cnn_train_options()
    lib.cnn_finetune_options_init(ctypes.byref(options), model._pointer, checked(passes.data))
    options.device, options.seed, options.batch = encode(passes.device), passes.seed, batch
    options.optimizer = choice("optimizer", "CNN_OPTIMIZER", optimizer)
    options.learning_rate = lr if lr is not None else 0.01 if options.optimizer == api.CNN_OPTIMIZER_SGD else 0.001
    options.storage = storage(amp)
    if augment is not None:
        options.augment, options.augmentation = augment, encode(augmentation)
    if distill > 0:
        options.teacher, options.distill, options.temperature = model._pointer, distill, temperature
    return options


def _prune(
    passes: _Passes, prune: float | None, keep: str | None, structure: str, criterion: str | None, over_all: bool
) -> None:
    options = api.cnn_prune_options(seed=passes.seed, device=encode(passes.device), data=ctypes.pointer(passes.data._struct))
    word = criterion or ("l1" if keep is None else "taylor")
    options.criterion = choice("criterion", "CNN_CRITERION", word)
    options.ratio = prune or 0.0
    setattr(options, "global", over_all)
    pointer = passes.model._pointer
    if keep is not None:
        check(lib.cnn_prune_to_widths(pointer, keep.encode(), ctypes.byref(options), None))
    elif structure in PRUNE:
        check(PRUNE[structure](pointer, ctypes.byref(options), None))
    else:
        raise ValueError(f"structure '{structure}' is not known: {', '.join(PRUNE)}")


def _fold(passes: _Passes, int8: bool) -> None:
    """Only INT8 needs batch norms gone; elsewhere one that cannot be folded stays."""
    status = lib.cnn_fold_batchnorm(passes.model._pointer)
    if int8 or status != api.CNN_ERR_UNSUPPORTED:
        check(status)


def _choose_bits(passes: _Passes, average: float | None) -> None:
    """Shares the bits of weights out by sensitivity, when an average was asked for."""
    if average is None:
        return
    options = api.cnn_bits_options(
        average=average, images=SENSITIVITY_IMAGES, seed=passes.seed, device=encode(passes.device)
    )
    rows, count = ctypes.POINTER(api.cnn_bits_row)(), ctypes.c_int()
    check(lib.cnn_choose_bits(passes.model._pointer, checked(passes.data), ctypes.byref(options), rows, count))
    free(rows)


def _search(
    model: Model,
    data: Data | None,
    max_drop: float | None,
    target_size: int | None,
    int8: bool,
    structure: str | None,
    finetune: float | None,
    seed: int,
    device: str,
) -> Model:
    """Lets cnn-opt search."""
    named = model._named(data)
    if not isinstance(named, str):
        raise CnnkitError("a search runs cnn-opt, which needs data that have a name, such as 'mnist' or 'png:FOLDER'")
    with tempfile.TemporaryDirectory() as folder:
        given, made = pathlib.Path(folder, "given.cnn"), pathlib.Path(folder, "made.cnn")
        model.save(given)
        command = [str(NATIVE / "bin" / "cnn-opt"), str(given), "-o", str(made), "--json", "--quiet"]
        if named.startswith("png:"):
            named = "png:" + os.path.abspath(named[4:])
        command += ["--data", named, "--seed", str(seed)]
        command += ["--device", device]
        command += ["--int8"] * int8 + (["--structure", structure] if structure else [])
        command += ["--finetune", f"{finetune:g}"] if finetune is not None else []
        command += ["--max-drop", f"{max_drop:g}"] if max_drop is not None else []
        command += ["--target-size", str(target_size)] if target_size is not None else []
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
        if done.returncode != 0:
            raise CnnkitError(done.stderr.strip().rpartition("\n")[2] or f"cnn-opt ended with {done.returncode}")
        found = json.loads(done.stdout)
        best = load(made)
        for name in ("before", "after"):
            figures = found[name]
            best.stages.append(
                Stage(name, figures["accuracy"], figures["file_bytes"], figures["weights"], figures["macs"])
            )
        return best


__all__ = ["Progress", "Stage", "optimize"]
