"""cnnkit: train, shrink and run convolutional networks.

    model = cnnkit.train("lenet5", "mnist", epochs=5, progress=print)
    small = model.optimize(prune=0.5, int8=True, progress=print)
    print(small.evaluate().accuracy, small.predict("digit.png").label)
    small.save("small.cnn")

Everything is computed by libcnn, which comes with the package; what goes wrong is a CnnkitError with its sentence.
"""

from ._library import set_threads, version
from .data import Data, Dataset, load_data
from .errors import CnnkitError
from .model import Evaluation, Info, Layer, Model, Prediction, create, from_torch, load, networks
from .optimizing import Stage, optimize
from .robust import Attack, Sanitizer, attack
from .training import Epoch, Training, train

__version__ = version()
__all__ = [
    "Attack",
    "CnnkitError",
    "Data",
    "Dataset",
    "Epoch",
    "Evaluation",
    "Info",
    "Layer",
    "Model",
    "Prediction",
    "Sanitizer",
    "Stage",
    "Training",
    "attack",
    "create",
    "from_torch",
    "load",
    "load_data",
    "networks",
    "optimize",
    "set_threads",
    "train",
    "version",
]
