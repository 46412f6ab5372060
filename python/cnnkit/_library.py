"""libcnn.so: loading it, calling it, and whatever it makes, which is freed when nothing refers to it."""

from __future__ import annotations

import ctypes
import os
import pathlib
import weakref
from typing import Any, Callable

try:
    from . import _api as api
except ImportError:
    raise ImportError("cnnkit is not built: install it with 'pip install ./python'") from None
from .errors import CnnkitError

NATIVE = pathlib.Path(__file__).parent / "native"
_libc = ctypes.CDLL(None)
_libc.free.argtypes = [ctypes.c_void_p]


def _load() -> ctypes.CDLL:
    """$CNNKIT_LIBRARY, else the library inside the package, with its script and its plug-in."""
    for name, path in (("CNN_GET_DATA", "libexec/cnnkit/get-data"), ("CNN_PLUGIN_DIR", "lib")):
        if (NATIVE / path).exists():
            os.environ.setdefault(name, str(NATIVE / path))
    path = os.environ.get("CNNKIT_LIBRARY") or str(NATIVE / "lib" / "libcnn.so")
    try:
        library = ctypes.CDLL(path)
    except OSError as error:
        raise ImportError(f"cnnkit: its library cannot be loaded: {error}") from None
    library.cnn_version.restype = ctypes.c_char_p
    found = library.cnn_version().decode()
    if found != api.VERSION:
        raise ImportError(f"cnnkit: {path} is version {found}, and this package is for {api.VERSION}")
    for name, (result, arguments) in api.FUNCTIONS.items():
        function = getattr(library, name, None)
        if function is None:
            raise ImportError(f"cnnkit: {path} has no {name}: it is another build than this package was made for")
        function.restype, function.argtypes = result, arguments
    return library


lib = _load()


def check(status: int) -> None:
    """Raises what the library says unless the status is CNN_OK."""
    if status != api.CNN_OK:
        raise CnnkitError(lib.cnn_last_error().decode(errors="replace"), lib.cnn_status_name(status).decode())


class Owned:
    """An object of the library, freed with the last reference to it. `keeps` lives at least as long."""

    def __init__(self, pointer: Any, free: Callable[[Any], None], keeps: Any = None) -> None:
        self.pointer = pointer
        self._keeps = keeps
        self._finalizer = weakref.finalize(self, free, pointer)


def made_by(function: Callable[..., int], *arguments: Any) -> Any:
    """Calls function(*arguments, &pointer) and returns the pointer."""
    kind = function.argtypes[-1]._type_  # type: ignore[attr-defined]
    pointer = kind()
    check(function(*arguments, ctypes.byref(pointer)))
    return pointer


def free(pointer: Any) -> None:
    _libc.free(ctypes.cast(pointer, ctypes.c_void_p))


def encode(text: str | os.PathLike[str] | None) -> bytes | None:
    return None if text is None else os.fsencode(text)


def choice(what: str, prefix: str, name: str) -> int:
    """The number of a word: choice("schedule", "CNN_SCHEDULE", "one-cycle")."""
    number = getattr(api, f"{prefix}_{str(name).upper().replace('-', '_')}", None)
    if number is None or name.upper() == "COUNT":
        words = [word[len(prefix) + 1 :] for word in vars(api) if word.startswith(prefix + "_")]
        known = ", ".join(word.lower().replace("_", "-") for word in words if word != "COUNT")
        raise ValueError(f"{what} '{name}' is not known: {known}")
    return number


def set_threads(threads: int = 0) -> None:
    """CPU threads that everything here may use together; 0: one for each CPU. Results do not depend on it."""
    check(lib.cnn_set_threads(threads))


def version() -> str:
    """Of libcnn: "0.1.0"."""
    return lib.cnn_version().decode()
