"""Makes the ctypes declarations of the package from the headers in include/cnn, so that they cannot differ.

    python3 bindings.py INCLUDE_DIR VERSION >cnnkit/_api.py

It reads what our headers consist of: enums, structs, types of callbacks, functions marked CNN_API. A pointer to what is
not declared in them is a void pointer. Anything it does not understand is an error.
"""

from __future__ import annotations

import pathlib
import re
import sys

# In the order in which they build on each other; backend.h and ops.h are for those who write backends.
HEADERS = [
    "status", "tensor", "picture", "dataset", "model", "sign", "session", "onnx", "safetensors", "train", "optimize", "robust",
]  # fmt: skip

SCALARS = {
    "bool": "c_bool", "char": "c_char", "int": "c_int", "float": "c_float", "double": "c_double", "size_t": "c_size_t",
    "int8_t": "c_int8", "uint8_t": "c_uint8", "uint16_t": "c_uint16", "int32_t": "c_int32", "uint32_t": "c_uint32",
    "int64_t": "c_int64", "uint64_t": "c_uint64",
}  # fmt: skip


def strip(text: str) -> str:
    """The declarations alone: no comments, no preprocessor, no bodies of inline functions."""
    text = re.sub(r"/\*.*?\*/", " ", text, flags=re.S)
    text = re.sub(r"^\s*#(?:.*\\\n)*.*$", "", text, flags=re.M)
    text = re.sub(r'extern "C" \{', "", text)
    inline = re.compile(r"static inline [^;{]*\{")
    while found := inline.search(text):
        end = found.end()
        depth = 1
        while depth:
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            end += 1
        text = text[: found.start()] + text[end:]
    return text


def declarations(text: str) -> list[str]:
    """Splits at semicolons outside of braces."""
    found, depth, begin = [], 0, 0
    for at, c in enumerate(text):
        depth += {"{": 1, "}": -1}.get(c, 0)
        if depth < 0:  # the end of extern "C"
            depth, begin = 0, at + 1
        elif c == ";" and depth == 0:
            found.append(" ".join(text[begin:at].split()))
            begin = at + 1
    return [declaration for declaration in found if declaration]


def parts(text: str) -> list[str]:
    """Splits at commas outside of parentheses."""
    found, depth, begin = [], 0, 0
    for at, c in enumerate(text + ","):
        depth += {"(": 1, ")": -1}.get(c, 0)
        if c == "," and depth == 0:
            found.append(text[begin:at].strip())
            begin = at + 1
    return found


class Bindings:
    def __init__(self) -> None:
        self.constants: dict[str, int] = {}
        self.enums: set[str] = set()
        self.structs: dict[str, list[tuple[str, str]]] = {}
        self.callbacks: set[str] = set()
        self.lines: list[str] = []
        self.functions: list[str] = []

    def number(self, text: str) -> int:
        return int(eval(text, {"__builtins__": {}}, dict(self.constants)))  # noqa: S307 - our own headers

    def type_of(self, base: str, stars: int) -> str:
        """The ctypes type of e.g. "const char" with one star."""
        words = [word for word in base.split() if word not in ("const", "struct", "enum")]
        if len(words) != 1:
            raise ValueError(f"no type: '{base}'")
        name = words[0]
        if name == "void":
            made, stars = ("None", 0) if stars == 0 else ("c_void_p", stars - 1)
        elif name == "char" and stars:
            made, stars = "c_char_p", stars - 1
        elif name in SCALARS:
            made = SCALARS[name]
        elif name in self.enums:
            made = "c_int"
        elif name in self.structs or name in self.callbacks:
            made = name
        elif stars:
            made, stars = "c_void_p", stars - 1  # a type that only the library knows
        else:
            raise ValueError(f"unknown type '{name}'")
        for _ in range(stars):
            made = f"POINTER({made})"
        return made

    def callback(self, result: str, arguments: str) -> str:
        return f"CFUNCTYPE({', '.join([self.argument(result)] + self.arguments(arguments))})"

    def argument(self, text: str) -> str:
        """The type of a parameter: "const float mean[4]", "cnn_model **model", "int"."""
        found = re.fullmatch(r"((?:const )?(?:struct )?\w+)\s*((?:\*\s*(?:const)?\s*)*)(\w+)?(\[\w*\])?", text)
        if not found:
            raise ValueError(f"no parameter: '{text}'")
        base, stars, _, array = found.groups()
        return self.type_of(base, stars.count("*") + bool(array))

    def arguments(self, text: str) -> list[str]:
        return [] if text.strip() == "void" else [self.argument(part) for part in parts(text)]

    def fields(self, text: str) -> list[tuple[str, str]]:
        """A line of a struct: a function pointer, a pointer to arrays, or a list of names of one type."""
        found = re.fullmatch(r"(.+?)\(\*(\w+)\)\((.*)\)", text)
        if found:
            return [(found[2], self.callback(found[1].strip(), found[3]))]
        found = re.fullmatch(r"(\w+) \(\*(\w+)\)\[(\w+)\]", text)
        if found:
            return [(found[2], f"POINTER({self.type_of(found[1], 0)} * {self.number(found[3])})")]
        found = re.fullmatch(r"((?:const )?(?:struct )?\w+)\s*(.*)", text)
        made = []
        for part in parts(found[2]):
            name = re.fullmatch(r"((?:\*\s*(?:const)?\s*)*)(\w+)((?:\[[^\]]*\])*)", part)
            if not name:
                raise ValueError(f"no field: '{text}'")
            kind = self.type_of(found[1], name[1].count("*"))
            for size in reversed(re.findall(r"\[([^\]]*)\]", name[3])):
                kind = f"({kind} * {self.number(size)})"
            made.append((name[2], kind))
        return made

    def enum(self, body: str) -> None:
        following = 0
        for part in parts(body):
            if part:
                name, _, value = part.partition("=")
                following = self.number(value) if value else following
                self.constants[name.strip()] = following
                self.lines.append(f"{name.strip()} = {following}")
                following += 1

    def declare(self, text: str) -> None:
        if found := re.fullmatch(r"(?:typedef )?enum (\w+ )?\{(.*)\}( \w+)?", text):
            self.enum(found[2])
            if found[3]:
                self.enums.add(found[3].strip())
        elif found := re.fullmatch(r"typedef struct \w+ \{(.*)\} (\w+)", text):
            fields = [field for line in declarations(found[1]) for field in self.fields(line)]
            self.structs[found[2]] = fields
            self.lines.append(f"\n\nclass {found[2]}(Structure):\n    _fields_ = [")
            self.lines += [f'        ("{name}", {kind}),' for name, kind in fields]
            self.lines.append("    ]\n\n")
        elif found := re.fullmatch(r"typedef (.+?)\(\*(\w+)\)\((.*)\)", text):
            self.lines.append(f"{found[2]} = {self.callback(found[1].strip(), found[3])}")
            self.callbacks.add(found[2])
        elif found := re.fullmatch(r"CNN_API (.+?)(\w+)\((.*)\)", text):
            self.functions.append(
                f'    "{found[2]}": ({self.argument(found[1].strip())}, [{", ".join(self.arguments(found[3]))}]),'
            )
        elif not re.fullmatch(r"typedef struct (\w+) \1", text):
            raise ValueError(f"not understood: '{text}'")


def read(include: str) -> Bindings:
    bindings = Bindings()
    for name in HEADERS:
        text = pathlib.Path(include, "cnn", f"{name}.h").read_text(encoding="utf-8")
        for declaration in declarations(strip(text)):
            try:
                bindings.declare(declaration)
            except ValueError as error:
                raise SystemExit(f"bindings.py: cnn/{name}.h: {error}") from None
    return bindings


def write(include: str, version: str) -> str:
    bindings = read(include)
    return "\n".join(
        [
            '"""The C API as ctypes sees it. Made by bindings.py from the headers in include/cnn."""',
            "",
            "from ctypes import *  # noqa: F403",
            "",
            f'VERSION = "{version}"',
            "",
            *bindings.lines,
            "",
            "# name: (result, [arguments])",
            "FUNCTIONS = {",
            *bindings.functions,
            "}",
            "",
        ]
    )


if __name__ == "__main__":
    sys.stdout.write(write(*sys.argv[1:3]))
