"""Builds libcnn and the tools with CMake and puts them into the package, with the ctypes declarations made of the headers.

CNNKIT_BUILD=DIR takes them from a CMake build folder that is there already; CNNKIT_CMAKE_ARGS are further arguments of
cmake, such as -DCNN_CUDA=OFF.
"""

import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

from setuptools import Distribution, setup
from setuptools.command.build_py import build_py

try:
    from setuptools.command.bdist_wheel import bdist_wheel
except ImportError:  # before setuptools 70.1
    from wheel.bdist_wheel import bdist_wheel

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(HERE))
import bindings  # noqa: E402

TOOLS = ["cnn-train", "cnn-opt", "cnn-infer"]


def version() -> str:
    try:
        text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    except OSError:
        raise SystemExit("cnnkit is installed from a clone of its repository: pip install ./python") from None
    return re.search(r"project\(cnnkit VERSION ([\d.]+)", text)[1]


def cmake(*arguments: str) -> None:
    try:
        subprocess.run(["cmake", *arguments], check=True)
    except FileNotFoundError:
        raise SystemExit("cmake was not found: scripts/setup installs what building needs") from None
    except subprocess.CalledProcessError:
        raise SystemExit("libcnn could not be built: scripts/setup installs what building needs") from None


def build() -> pathlib.Path:
    """The folder in which libcnn.so, bin/ and, where the CUDA toolkit is, libcnn-cuda.so lie."""
    if named := os.environ.get("CNNKIT_BUILD"):
        return pathlib.Path(named).resolve()
    folder = ROOT / "build" / "python"
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    more = shlex.split(os.environ.get("CNNKIT_CMAKE_ARGS", ""))
    cmake("-S", str(ROOT), "-B", str(folder), "-DCMAKE_BUILD_TYPE=Release", "-DCNN_TESTS=OFF", *generator, *more)
    cmake("--build", str(folder), "--parallel")
    return folder


class BuildWithLibrary(build_py):
    def run(self) -> None:
        super().run()
        package = (HERE if getattr(self, "editable_mode", False) else pathlib.Path(self.build_lib)) / "cnnkit"
        declarations = bindings.write(str(ROOT / "include"), version())
        (package / "_api.py").write_text(declarations, encoding="utf-8")
        built = build()
        files = {"lib/libcnn.so": built / "libcnn.so", "libexec/cnnkit/get-data": ROOT / "scripts" / "get-data"}
        files.update({f"bin/{tool}": built / "bin" / tool for tool in TOOLS})
        plugin = built / "lib" / "libcnn-cuda.so"
        if plugin.exists():
            files["lib/libcnn-cuda.so"] = plugin
        for name, source in files.items():
            target = package / "native" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)


class PlatformDistribution(Distribution):
    def has_ext_modules(self) -> bool:
        return True


class AnyPython(bdist_wheel):
    """The library suits this system, and any Python 3 on it."""

    def get_tag(self) -> tuple:
        return ("py3", "none", super().get_tag()[2])


setup(
    version=version(),
    distclass=PlatformDistribution,
    cmdclass={"build_py": BuildWithLibrary, "bdist_wheel": AnyPython},
)
