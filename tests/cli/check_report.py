"""Checks what cnn-opt --report wrote. Standard library only.

    check_report.py json REPORT MODEL        the keys of docs/report.md, and sums that must agree; MODEL: the file made
    check_report.py html PAGE TEXT...        well-formed XML that needs nothing else and shows each TEXT
    check_report.py same REPORT REPORT       two runs of a command: all is equal but the times
"""
import base64
import json
import struct
import sys
import xml.etree.ElementTree as tree
import zlib


def fail(sentence):
    sys.exit(f"check_report: {sentence}")


def check(condition, sentence):
    if not condition:
        fail(sentence)


def load(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def pixels_of(png):
    """Sides and bytes of a PNG picture without palette, alpha and interlacing, its checksums checked."""
    check(png[:8] == b"\x89PNG\r\n\x1a\n", "a picture is no PNG")
    at, data = 8, b""
    while at < len(png):
        length, kind = struct.unpack(">I4s", png[at:at + 8])
        body = png[at + 8:at + 8 + length]
        crc, = struct.unpack(">I", png[at + 8 + length:at + 12 + length])
        check(crc == zlib.crc32(kind + body), "a picture has a wrong checksum")
        if kind == b"IHDR":
            width, height, depth, colour = struct.unpack(">IIBB", body[:10])
        data += body if kind == b"IDAT" else b""
        at += 12 + length
    check(depth == 8 and colour in (0, 2), "a picture is neither gray nor RGB")
    rows = zlib.decompress(data)
    check(len(rows) == height * (1 + width * (1 if colour == 0 else 3)), "a picture has not the size it says")
    return width, height


FIGURES = ["accuracy", "file_bytes", "weights", "macs"]
LAYER = ["name", "type", "channels_before", "channels", "weights_before", "weights", "nonzeros", "structure",
         "macs_before", "macs", "shape_before", "shape", "dtype", "bits", "bytes_before", "bytes", "sensitivity", "histogram"]
REPORT = ["command", "model", "data", "val_images", "trained_on_val", "output", "explanation", "before", "after", "passes",
          "points", "layers", "other_bytes_before", "other_bytes", "sensitivity", "classes", "confusion_before", "confusion",
          "changed", "timing"]


def product(sizes):
    n = 1
    for size in sizes:
        n *= size
    return n


def check_layer(layer, trials):
    check(all(key in layer for key in LAYER), f"layer {layer.get('name')} lacks keys")
    check(layer["bits"] == {"i8": 8, "f32": 32}[layer["dtype"]], "the weights do not take all bits")
    check(list(layer["sensitivity"]) == trials, "a layer's sensitivity is not that of the trials")
    for side, shape in ("before", "shape_before"), ("after", "shape"):
        histogram = layer["histogram"][side]
        check(histogram["zeros"] + sum(histogram["bins"]) == product(layer[shape]), f"weights {side} are not all counted")
    check(product(layer["shape"]) - layer["histogram"]["after"]["zeros"] == layer["nonzeros"], "nonzeros disagree")


def check_answers(report):
    images, classes, changed = report["val_images"], len(report["classes"]), report["changed"]
    for key, figures in ("confusion_before", "before"), ("confusion", "after"):
        matrix = report[key]
        check(len(matrix) == classes and all(len(row) == classes for row in matrix), f"{key} is not square")
        check(sum(map(sum, matrix)) == images, f"{key} does not count every image")
        right = sum(matrix[i][i] for i in range(classes))
        check(right == round(report[figures]["accuracy"] * images), f"{key} has not the accuracy of {figures}")
    gained = round((report["after"]["accuracy"] - report["before"]["accuracy"]) * images)
    check(changed["mended"] - changed["broken"] == gained, "changed answers do not explain the accuracy")
    total = changed["broken"] + changed["mended"] + changed["other"]
    check(len(changed["pictures"]) == min(24, total), "not as many pictures as there should be")
    for picture in changed["pictures"]:
        check(picture["before"] != picture["after"], "a picture is shown that did not change")
        check(0 < picture["probability"] <= 1 and 0 < picture["probability_before"] <= 1, "no probability")
        pixels_of(base64.b64decode(picture["png"], validate=True))


def check_json(path, model):
    report = load(path)
    check(list(report) == REPORT, f"the keys are {list(report)}")
    for figures in [report["before"], report["after"]] + report["passes"]:
        check(all(key in figures for key in FIGURES), "figures are missing")
    check(report["passes"][0]["accuracy"] == report["before"]["accuracy"], "the first pass is not 'before'")
    check(len(report["points"]) == len(report["passes"]), "not a point for each pass")
    trials = list(report["sensitivity"]["trials"])
    for layer in report["layers"]:
        check_layer(layer, trials)
    for key in "_before", "":
        total = sum(layer["bytes" + key] for layer in report["layers"]) + report["other_bytes" + key]
        check(total == report["before" if key else "after"]["file_bytes"], f"bytes{key} do not add up")
    with open(model, "rb") as file:
        check(len(file.read()) == report["after"]["file_bytes"], "the file has another size")
    check_answers(report)


MOST_BYTES = 300_000


def check_html(path, *texts):
    """ElementTree knows no entity but XML's own and stops at the first tag that is not closed."""
    with open(path, encoding="utf-8") as file:
        page = file.read()
    check(page.startswith("<!DOCTYPE html>\n"), "it does not begin as HTML does")
    check(len(page.encode()) < MOST_BYTES, f"{len(page)} bytes are too many")
    root = tree.fromstring(page)
    for element in root.iter():
        check(element.tag not in ("script", "link", "iframe", "object", "embed"), f"there is a <{element.tag}>")
        check(not any(name.startswith("on") for name in element.attrib), "there is a handler of events")
        check("href" not in element.attrib, "there is a link")
        if "src" in element.attrib:
            check(element.tag == "img" and element.get("alt"), "a picture has no description")
            kind, data = element.get("src").split(",", 1)
            check(kind == "data:image/png;base64", "a picture is not inside")
            pixels_of(base64.b64decode(data, validate=True))
            del element.attrib["src"]
        if element.tag == "svg":
            check(element.get("aria-label") or element.get("aria-hidden"), "a chart has no description")
    for outside in "http:", "https:", "//", "@import", "url(", "javascript":
        check(outside not in tree.tostring(root, encoding="unicode"), f"'{outside}' refers to something outside")
    words = "".join(root.itertext())
    check("nan" not in words.split() and "inf" not in words.split(), "a number is none")
    for text in texts:
        check(text in words, f"it does not show '{text}'")


def without_times(path):
    if path.endswith(".html"):
        root = tree.parse(path).getroot()
        times = 0
        for parent in root.iter():
            for child in [child for child in parent if "timing" in child.get("class", "").split()]:
                parent.remove(child)
                times += 1
        check(times > 5, "no times are marked")
        return tree.tostring(root)
    report = load(path)
    check(report.pop("timing"), "no times")
    return report


def check_same(one, two):
    check(without_times(one) == without_times(two), "two runs of a command tell different things")


if __name__ == "__main__":
    {"json": check_json, "html": check_html, "same": check_same}[sys.argv[1]](*sys.argv[2:])
