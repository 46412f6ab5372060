"""The ctypes declarations that python/bindings.py makes of the headers, against what a C compiler makes of them.

    check_bindings.py SOURCE_DIR C_COMPILER LIBRARY|""

Each struct has the size, and each field the place, that C gives it; each constant the value; the library exports each
function. Needs neither NumPy nor pytest.
"""

import ctypes
import pathlib
import subprocess
import sys
import tempfile

source, compiler, library = sys.argv[1:4]
sys.path.insert(0, f"{source}/python")
sys.dont_write_bytecode = True
import bindings  # noqa: E402

made = bindings.read(f"{source}/include")
api = {}
exec(bindings.write(f"{source}/include", "0"), api)  # noqa: S102

lines = ["#include <cnn/cnn.h>", "#include <stdio.h>", "int main(void)", "{"]
for name, fields in made.structs.items():
    lines.append(f'printf("{name} %zu\\n", sizeof({name}));')
    lines += [f'printf("{name}.{field} %zu\\n", offsetof({name}, {field}));' for field, _ in fields]
lines += [f'printf("{name} %lld\\n", (long long){name});' for name in made.constants]
lines.append("return 0; }")

with tempfile.TemporaryDirectory() as folder:
    program = pathlib.Path(folder, "layout.c")
    program.write_text("\n".join(lines))
    command = [compiler, "-std=c11", f"-I{source}/include", str(program), "-o", f"{folder}/layout"]
    subprocess.run(command, check=True)
    output = subprocess.run([f"{folder}/layout"], check=True, capture_output=True, text=True).stdout

wrong, checks = [], 0
for line in output.splitlines():
    name, value = line.split()
    struct, _, field = name.partition(".")
    if field:
        found = getattr(api[struct], field).offset
    else:
        found = api[name] if name in made.constants else ctypes.sizeof(api[name])
    checks += 1
    if found != int(value):
        wrong.append(f"{name} is {value} in C and {found} here")
if library:
    loaded = ctypes.CDLL(library)
    for name in api["FUNCTIONS"]:
        checks += 1
        if not hasattr(loaded, name):
            wrong.append(f"{library} does not export {name}")

print("\n".join(wrong + [f"{checks} checks, {len(wrong)} failed"]))
sys.exit(bool(wrong) or checks < (300 if library else 250))
