"""The virtual environment with the peers: what pins.txt lists, installed from PyPI.

torch on PyPI for Linux is the CUDA build: libtorch_cpu.so, which does all that is measured here, and libtorch_cuda.so,
which the loader brings in as well and which asks for some fifteen NVIDIA libraries, three gigabytes of packages. None of
their functions is called on a CPU. So each of these libraries is made here as a stub: a library of that name and version
whose functions report that there is no device. They lie where the packages would put them, and nothing of torch's own files
is changed.
"""
import os
import re
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
CUDA_LIBRARY = re.compile(r"lib(cu|nv|nccl)\w*\.so")
CUDA_FUNCTION = re.compile(r"(__)?(cu|nv|nccl)")
NO_DEVICE = 100  # cudaErrorNoDevice


class Failed(Exception):
    """The environment cannot be made; the message says why."""


def default_folder():
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(cache, "cnnkit", "peers-venv")


def pins(name="pins.txt"):
    """The lines of a list that name packages."""
    with open(os.path.join(HERE, name), encoding="utf-8") as lines:
        return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def run(args):
    done = subprocess.run(args, capture_output=True, text=True)
    if done.returncode != 0:
        words = (done.stderr.strip() or done.stdout.strip()).splitlines() or ["no reason given"]
        raise Failed(f"{' '.join(args[:4])}: {words[-1]}")
    return done.stdout


def add(folder, name, say):
    """Installs another list into an environment that is there, unless it was."""
    python, marker = os.path.join(folder, "bin", "python"), os.path.join(folder, name)
    if os.path.exists(marker) and open(marker, encoding="utf-8").read().split() == pins(name):
        return
    for pin in pins(name):
        say(f"installing {pin}")
        run([python, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:", "--no-input", "--index-url",
             "https://pypi.org/simple", "--disable-pip-version-check", pin])
    with open(marker, "w", encoding="utf-8") as out:
        out.write("\n".join(pins(name)) + "\n")


def make_stub(name, version, functions, folder):
    """One stub library."""
    code = []
    for function in sorted(functions):
        if function in ("cudaGetErrorString", "cudaGetErrorName"):
            code.append(f'const char *{function}(void) {{ return "no device"; }}')
        else:
            code.append(f"long {function}(void) {{ return {NO_DEVICE if re.match('cuda[A-Z]', function) else 0}; }}")
    source, script = os.path.join(folder, "stub.c"), os.path.join(folder, "stub.map")
    with open(source, "w", encoding="utf-8") as out:
        out.write("\n".join(code) + "\n")
    with open(script, "w", encoding="utf-8") as out:
        out.write(f"{version} {{ global: *; }};\n")
    run(["cc", "-w", "-shared", "-fPIC", "-nostdlib", "-fno-builtin", f"-Wl,-soname,{name}",
         *([f"-Wl,--version-script={script}"] if version else []), "-o", os.path.join(folder, name), source])
    os.remove(source)
    os.remove(script)


def make_stubs(packages):
    """Stubs for every CUDA library that torch's libraries name; `packages`: the environment's site-packages."""
    library_folder = os.path.join(packages, "torch", "lib")
    wanted = {}  # library -> (version, functions)
    loose = set()
    for file in sorted(os.listdir(library_folder)):
        path = os.path.join(library_folder, file)
        if ".so" not in file or file == "libtorch_cuda_linalg.so":  # that one is loaded by GPU code alone
            continue
        for name in re.findall(r"NEEDED.*\[(.*)\]", run(["readelf", "-dW", path])):
            if CUDA_LIBRARY.match(name):
                wanted.setdefault(name, ["", set()])
        for name in re.findall(r" U (\S+)", run(["nm", "-D", "--undefined-only", path])):
            function, _, version = name.partition("@")
            version = version.lstrip("@")
            library = "libnvshmem_host.so.3" if version == "NVSHMEM" else version
            if CUDA_LIBRARY.match(library):
                wanted.setdefault(library, ["", set()])
                wanted[library][0] = version
                wanted[library][1].add(function)
            elif not version and CUDA_FUNCTION.match(function):
                loose.add(function)
    folder = os.path.join(packages, "nvidia", "cu13", "lib")
    os.makedirs(folder, exist_ok=True)
    for name, (version, functions) in wanted.items():
        make_stub(name, version, functions | (loose if name.startswith("libnccl") else set()), folder)


def site_packages(folder):
    return run([os.path.join(folder, "bin", "python"), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).strip()


def ready(folder):
    """Whether the environment is there with these pins."""
    try:
        with open(os.path.join(folder, "pins.txt"), encoding="utf-8") as made:
            return made.read().split() == pins()
    except OSError:
        return False


def make(folder, say):
    """Makes the environment, or leaves it when it has these pins; returns its Python. Each package installs on its own, so
    that one that this platform lacks leaves the others: workers say what they miss. numpy wants Python 3.11 or newer."""
    python = os.path.join(folder, "bin", "python")
    if ready(folder):
        return python
    if os.path.isdir(folder) and not os.path.exists(os.path.join(folder, "pyvenv.cfg")) and os.listdir(folder):
        raise Failed(f"{folder} is there and is not a virtual environment; name another one with --venv")
    shutil.rmtree(folder, ignore_errors=True)
    say(f"making {folder} (downloads about 700 MB from PyPI)")
    try:
        run([sys.executable, "-m", "venv", folder])
    except Failed as error:
        raise Failed(f"{error} (on Debian and Ubuntu venv is in the package python3-venv)") from None
    failed = []
    for pin in pins():
        say(f"installing {pin}")
        try:
            run([python, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:", "--no-input", "--index-url",
                 "https://pypi.org/simple", "--disable-pip-version-check", pin])
        except Failed as error:
            failed.append(pin)
            say(f"{pin} is not installed: {error}")
    packages = site_packages(folder)
    if os.path.isdir(os.path.join(packages, "torch")) and os.path.exists(os.path.join(packages, "torch", "lib", "libtorch_cuda.so")):
        say("making stubs of the CUDA libraries")
        try:
            make_stubs(packages)
        except (Failed, OSError) as error:
            failed.append("stubs")
            say(f"torch will not load: {error}")
    if not failed:  # else the next run tries again
        with open(os.path.join(folder, "pins.txt"), "w", encoding="utf-8") as out:
            out.write("\n".join(pins()) + "\n")
    return python
