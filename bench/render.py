"""Pictures such as people take and draw, rendered from MNIST digits. Used by bench/pictures.

A kind is a function (digit, rng) -> PIL image, where a digit is [28,28], 0..1, ink bright; `number` kinds take several
digits. Everything that varies comes from rng, so a seed gives the same pictures again.
"""
import io
import math

import numpy as np
from PIL import Image, ImageDraw

LUMA = np.array([0.299, 0.587, 0.114])
WHITE, BLACK = np.ones(3), np.zeros(3)


# ---- Planes: arrays [height,width], 0..1, ink is 1 ----

def resized(plane, height, width, how=Image.BICUBIC):
    image = Image.fromarray(plane.astype(np.float32)).resize((width, height), how)
    return np.clip(np.asarray(image, dtype=np.float64), 0, 1)


def enlarged(digit, times):
    return resized(digit, round(digit.shape[0] * times), round(digit.shape[1] * times))


def placed(plane, height, width, top, left):
    canvas = np.zeros((height, width))
    canvas[top:top + plane.shape[0], left:left + plane.shape[1]] = plane
    return canvas


def padded(plane, margin):
    return np.pad(plane, margin)


def somewhere(plane, height, width, rng):
    """On an empty plane, wholly inside it."""
    return placed(plane, height, width, int(rng.integers(0, height - plane.shape[0] + 1)),
                  int(rng.integers(0, width - plane.shape[1] + 1)))


def turned(plane, degrees):
    image = Image.fromarray(plane.astype(np.float32)).rotate(degrees, Image.BILINEAR)
    return np.clip(np.asarray(image, dtype=np.float64), 0, 1)


def trimmed(plane):
    rows, columns = np.where(plane > 0.3)
    return plane[rows.min():rows.max() + 1, columns.min():columns.max() + 1]


def blurred(array, sigma):
    """Gaussian along the first two axes, borders repeated."""
    radius = max(1, math.ceil(3 * sigma))
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    taps /= taps.sum()
    for axis in 0, 1:
        padding = [(radius, radius) if a == axis else (0, 0) for a in range(array.ndim)]
        wide = np.pad(array, padding, mode="edge")
        size = array.shape[axis]
        array = sum(t * np.take(wide, range(k, k + size), axis) for k, t in enumerate(taps))
    return array


# ---- Strokes: the middle line of a digit, drawn with a pen of any width ----

def neighbours(mask):
    """The eight neighbours, clockwise from the one above."""
    wide = np.pad(mask, 1)
    steps = [(-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1)]
    return [wide[1 + dy:1 + dy + mask.shape[0], 1 + dx:1 + dx + mask.shape[1]] for dy, dx in steps]


def thinned(mask):
    """Zhang and Suen's thinning (1984)."""
    mask = mask.astype(np.uint8)
    while True:
        before = mask.sum()
        for first in True, False:
            p = neighbours(mask)
            count = sum(p)
            changes = sum((p[i] == 0) & (p[(i + 1) % 8] == 1) for i in range(8))
            n, e, s, w = p[0], p[2], p[4], p[6]
            free = (n * e * s == 0) & (e * s * w == 0) if first else (n * e * w == 0) & (n * s * w == 0)
            mask = np.where((mask == 1) & (count >= 2) & (count <= 6) & (changes == 1) & free, 0, mask).astype(np.uint8)
        if mask.sum() == before:
            return mask


def stroked(digit, size, width):
    """The digit in a plane of size x size, its strokes `width` pixels wide, with soft edges."""
    fine, smooth = 8, 4
    points = np.argwhere(thinned(blurred(enlarged(digit, fine), 2.5) > 0.45))
    scale = size * smooth / (28 * fine)
    radius = width * smooth / 2
    image = Image.new("L", (size * smooth, size * smooth))
    draw = ImageDraw.Draw(image)
    for y, x in (points + 0.5) * scale:
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    # the thinned line has steps: a little smoothing of the outline takes them away
    plane = np.asarray(image.resize((size, size), Image.BOX), dtype=np.float64) / 255
    return np.clip((blurred(plane, max(0.5, scale / smooth / 2)) - 0.5) * 1.6 + 0.5, 0, 1)


# ---- Colours: arrays [height,width,3], 0..1 ----

def coloured(plane, paper, ink):
    return paper + (ink - paper) * plane[..., None]


def any_colours(rng):
    while True:
        paper, ink = rng.random(3), rng.random(3)
        if abs(paper @ LUMA - ink @ LUMA) > 0.25:
            return paper, ink


def paper_colour(rng):
    return np.array([0.92, 0.9, 0.85]) * rng.uniform(0.7, 1.05)


def pen_colour(rng):
    return np.array([[0.1, 0.1, 0.35], [0.12, 0.12, 0.12], [0.45, 0.1, 0.1], [0.15, 0.25, 0.6]][rng.integers(4)])


def lit(colours, darker, rng):
    """Light that falls off across the picture, by the share `darker` at the far corner."""
    height, width = colours.shape[:2]
    y, x = np.mgrid[-1:1:height * 1j, -1:1:width * 1j]
    angle = rng.uniform(0, 2 * math.pi)
    along = (math.cos(angle) * x + math.sin(angle) * y + math.sqrt(2)) / (2 * math.sqrt(2))
    return colours * (1 - darker * along)[..., None]


def vignetted(colours, darker):
    height, width = colours.shape[:2]
    y, x = np.mgrid[-1:1:height * 1j, -1:1:width * 1j]
    return colours * (1 - darker * (x * x + y * y) / 2)[..., None]


def shaded(colours, share, sharpness, rng):
    """The shadow of a straight edge falls on a side of the picture."""
    height, width = colours.shape[:2]
    y, x = np.mgrid[-1:1:height * 1j, -1:1:width * 1j]
    angle = rng.uniform(0, 2 * math.pi)
    away = (math.cos(angle) * x + math.sin(angle) * y - rng.uniform(-0.3, 0.3)) * sharpness
    return colours * (1 - share / (1 + np.exp(-np.clip(away, -50, 50))))[..., None]


def noisy(colours, sigma, rng):
    return colours + rng.normal(0, sigma, colours.shape)


def mottled(height, width, scale, rng):
    """Smooth noise of about this size in pixels, mean 0, deviation 1."""
    rough = rng.normal(0, 1, (max(2, height // scale), max(2, width // scale)))
    image = Image.fromarray(rough.astype(np.float32)).resize((width, height), Image.BICUBIC)
    plane = np.asarray(image, dtype=np.float64)
    return (plane - plane.mean()) / plane.std()


def to_bytes(colours):
    return (np.clip(colours, 0, 1) * 255 + 0.5).astype(np.uint8)


def to_image(colours):
    return Image.fromarray(to_bytes(colours))


def compressed(colours, quality):
    """As JPEG leaves it."""
    file = io.BytesIO()
    to_image(colours).save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


# ---- Easy kinds ----

def rotated(digit, rng):
    return to_image(turned(padded(enlarged(digit, 4), 14), rng.choice([-1, 1]) * rng.uniform(8, 15)))


def jpeg(digit, rng):
    return compressed(noisy(coloured(padded(enlarged(digit, 4), 10), np.full(3, 0.9), np.full(3, 0.2)), 0.05, rng), 25)


def inverted(digit, rng):
    return to_image(1 - digit)


def colour(digit, rng):
    return to_image(coloured(padded(enlarged(digit, 4), 10), *any_colours(rng)))


def upscaled(digit, rng):
    return to_image(np.kron(digit, np.ones((4, 4))) if rng.random() < 0.5 else enlarged(digit, 4))


def corner(digit, rng):
    plane = enlarged(digit, 3)
    top = 2 if rng.random() < 0.5 else 300 - 2 - plane.shape[0]
    left = 2 if rng.random() < 0.5 else 420 - 2 - plane.shape[1]
    return to_image(1 - placed(plane, 300, 420, top, left))


def deep(digit, rng):
    values = 45000 - enlarged(digit, 5) * rng.uniform(15000, 35000)
    return Image.fromarray(np.clip(values, 0, 65535).astype(np.uint16))


def palette(digit, rng):
    return to_image(coloured(padded(enlarged(digit, 4), 10), paper_colour(rng), pen_colour(rng))).quantize(8)


def photo(digit, rng):
    plane = turned(somewhere(enlarged(digit, 6), 320, 320, rng) * rng.uniform(0.6, 0.95), rng.uniform(-8, 8))
    colours = lit(coloured(plane, paper_colour(rng), pen_colour(rng)), 0.45, rng)
    return compressed(noisy(blurred(colours, 1), 0.03, rng), 40)


def alpha(digit, rng):
    plane = padded(enlarged(digit, 4), 24)
    pixels = np.full(plane.shape + (4,), 255 * rng.integers(2), np.uint8)
    pixels[..., 3] = to_bytes(plane)
    return Image.fromarray(pixels)


# ---- Hard kinds ----

def ruled(digit, rng):
    colours = coloured(padded(enlarged(digit, 5), 40), paper_colour(rng), pen_colour(rng))
    line = np.array([0.6, 0.7, 0.9])
    for y in range(int(rng.integers(5, 30)), 220, 30):
        colours[y:y + 2] = 0.4 * colours[y:y + 2] + 0.6 * np.minimum(colours[y:y + 2], line)
    return compressed(noisy(colours, 0.02, rng), 60)


def shadow(digit, rng):
    colours = coloured(padded(enlarged(digit, 5), 40), paper_colour(rng), pen_colour(rng))
    light = np.ones(220)
    light[rng.integers(60, 160):] = 0.65
    return to_image(colours * blurred(np.tile(light, (2, 1)), 4)[0][None, :, None])


def tight(digit, rng):
    return to_image(1 - enlarged(trimmed(digit), 5))


def frame(digit, rng):
    colours = np.full((260, 260, 3), 0.25)
    colours[20:240, 20:240] = coloured(padded(enlarged(digit, 5), 40), paper_colour(rng), pen_colour(rng))
    return to_image(colours)


def specks(digit, rng):
    plane = padded(enlarged(digit, 5), 60)
    for _ in range(25):
        y, x, side = rng.integers(0, 256), rng.integers(0, 256), rng.integers(1, 4)
        plane[y:y + side, x:x + side] = 1
    return to_image(1 - plane)


# ---- What strangers send ----

def camera(colours, rng):
    """Focus, noise and compression of a phone."""
    return compressed(noisy(blurred(colours, rng.uniform(0.5, 1.5)), rng.uniform(0.005, 0.03), rng), int(rng.integers(50, 90)))


def pen(digit, rng):
    """A thin pen on a phone's photo, light falling off."""
    size = int(rng.integers(160, 420))
    plane = stroked(digit, size, rng.uniform(0.012, 0.03) * size) * rng.uniform(0.6, 0.95)
    plane = turned(somewhere(plane, 600, 800, rng), rng.uniform(-5, 5))
    colours = lit(coloured(plane, paper_colour(rng), pen_colour(rng)), rng.uniform(0.2, 0.5), rng)
    return camera(vignetted(colours, rng.uniform(0, 0.3)), rng)


def marker(digit, rng):
    """A thick marker fills the sheet."""
    size = int(rng.integers(240, 420))
    plane = stroked(digit, size, rng.uniform(0.11, 0.17) * size)
    plane = somewhere(plane, size + 100, size + 160, rng)
    return camera(lit(coloured(plane, paper_colour(rng), pen_colour(rng)), 0.25, rng), rng)


def touch(digit, rng):
    """A thin line with a finger or a mouse on a large canvas."""
    size = int(rng.integers(250, 800))
    plane = somewhere(stroked(digit, size, rng.uniform(2, 5)), 1100, 900, rng)
    return to_image(coloured(plane, *((WHITE, BLACK) if rng.random() < 0.7 else (BLACK, WHITE))))


def grid(digit, rng):
    """Checkered paper; the pen is darker than the lines."""
    size = int(rng.integers(120, 300))
    plane = stroked(digit, size, rng.uniform(0.025, 0.06) * size)
    plane = somewhere(plane, 420, 420, rng)
    paper, step, thick = paper_colour(rng), int(rng.integers(18, 50)), int(rng.integers(1, 3))
    line = paper * np.array([0.72, 0.8, 0.93]) if rng.random() < 0.5 else paper * rng.uniform(0.65, 0.8)
    colours = np.tile(paper, (420, 420, 1))
    for at in range(int(rng.integers(0, step)), 420, step):
        colours[at:at + thick] = line
        colours[:, at:at + thick] = line
    colours = colours + (np.minimum(pen_colour(rng), colours) - colours) * plane[..., None]
    return camera(lit(colours, rng.uniform(0, 0.35), rng), rng)


def cell(digit, rng):
    """Cut from a scanned form: the digit in a printed box."""
    plane = padded(enlarged(digit, 4), 12)
    side, thick, inset = plane.shape[0], int(rng.integers(1, 4)), int(rng.integers(0, 8))
    lines = np.zeros_like(plane)
    for at in inset, side - inset - thick:
        lines[at:at + thick, inset:side - inset] = 1
        lines[inset:side - inset, at:at + thick] = 1
    plane = np.maximum(plane, lines)
    return to_image(noisy(1 - plane * rng.uniform(0.7, 1) - rng.uniform(0, 0.1), 0.02, rng)[..., None].repeat(3, 2))


def chalk(digit, rng):
    """Chalk on a board: bright, with gaps."""
    size = int(rng.integers(200, 360))
    plane = stroked(digit, size, rng.uniform(0.05, 0.09) * size)
    plane = plane * np.clip(0.75 + 0.3 * mottled(size, size, 2, rng), 0.2, 1)
    plane = somewhere(plane, 420, 560, rng)
    board = np.array([[0.1, 0.25, 0.18], [0.13, 0.14, 0.15]][rng.integers(2)])
    ink = np.array([[0.9, 0.9, 0.88], [0.95, 0.85, 0.4], [0.9, 0.6, 0.65], [0.55, 0.75, 0.95]][rng.integers(4)])
    smears = np.clip(0.06 * mottled(420, 560, 60, rng), -0.05, 0.15)
    return camera(lit(coloured(plane, board, ink) + smears[..., None], 0.3, rng), rng)


def desk(digit, rng):
    """A sheet on a table, turned a little; one or more of its edges are in the picture."""
    size = int(rng.integers(160, 300))
    plane = somewhere(stroked(digit, size, rng.uniform(0.03, 0.08) * size), 420, 420, rng)
    table = np.array([[0.35, 0.22, 0.12], [0.5, 0.38, 0.28], [0.2, 0.2, 0.22], [0.1, 0.1, 0.1]][rng.integers(4)])
    sheet = Image.new("L", (560, 560))
    left, top, right, bottom = (int(rng.integers(15, 65)) if rng.random() < 0.6 else -80 for _ in range(4))
    ImageDraw.Draw(sheet).rectangle((left, top, 560 - right, 560 - bottom), fill=255)
    angle = rng.uniform(-4, 4)
    inside = turned(np.asarray(sheet) / 255.0, angle)
    drawing = turned(placed(plane, 560, 560, 70, 70), angle)
    colours = coloured(drawing, paper_colour(rng), pen_colour(rng))
    wood = np.clip(table * (1 + 0.12 * mottled(560, 560, 12, rng)[..., None]), 0, 1)
    colours = wood + (colours - wood) * inside[..., None]
    return camera(lit(colours, rng.uniform(0, 0.35), rng), rng)


def hand(digit, rng):
    """The shadow of a hand or a phone falls across a pen drawing."""
    size = int(rng.integers(160, 330))
    plane = somewhere(stroked(digit, size, rng.uniform(0.03, 0.08) * size), 480, 480, rng)
    colours = coloured(plane, paper_colour(rng), pen_colour(rng))
    return camera(shaded(colours, rng.uniform(0.2, 0.5), rng.uniform(5, 60), rng), rng)


def pencil(digit, rng):
    """Soft gray, hardly darker than the paper's grain."""
    size = int(rng.integers(160, 330))
    plane = stroked(digit, size, rng.uniform(0.025, 0.05) * size) * rng.uniform(0.25, 0.5)
    plane = plane * np.clip(0.8 + 0.3 * mottled(size, size, 2, rng), 0, 1)
    colours = coloured(somewhere(plane, 400, 500, rng), paper_colour(rng), np.full(3, 0.2))
    return camera(lit(colours + 0.01 * mottled(400, 500, 3, rng)[..., None], rng.uniform(0, 0.4), rng), rng)


def notebook(digit, rng):
    """Lines nearly as dark as the pen, also through the digit."""
    size = int(rng.integers(130, 260))
    plane = somewhere(stroked(digit, size, rng.uniform(0.035, 0.07) * size), 360, 360, rng)
    paper, step = paper_colour(rng), int(rng.integers(40, 80))
    line = paper * rng.uniform(0.45, 0.7)
    colours = np.tile(paper, (360, 360, 1))
    for at in range(int(rng.integers(0, step)), 360, step):
        colours[at:at + 2] = line
    colours = colours + (np.minimum(pen_colour(rng), colours) - colours) * plane[..., None]
    return camera(colours, rng)


def large(digit, rng):
    """A photo of a few megapixels in which the digit is small."""
    size = int(rng.integers(180, 400))
    plane = somewhere(stroked(digit, size, rng.uniform(0.03, 0.07) * size), 1500, 2000, rng)
    colours = lit(coloured(plane, paper_colour(rng), pen_colour(rng)), rng.uniform(0.1, 0.4), rng)
    return compressed(noisy(colours, 0.02, rng), 80)


def board(digit, rng):
    """A whiteboard with the reflection of a lamp."""
    size = int(rng.integers(160, 300))
    plane = stroked(digit, size, rng.uniform(0.04, 0.08) * size)
    ink = np.array([[0.1, 0.2, 0.6], [0.1, 0.1, 0.12], [0.7, 0.1, 0.1], [0.1, 0.45, 0.2]][rng.integers(4)])
    colours = lit(coloured(somewhere(plane, 420, 560, rng), np.full(3, 0.75), ink), 0.3, rng)
    y, x = np.mgrid[0:420, 0:560]
    away = ((y - rng.integers(0, 420)) / 60) ** 2 + ((x - rng.integers(0, 560)) / 90) ** 2
    return camera(colours + rng.uniform(0.1, 0.35) * np.exp(-away)[..., None], rng)


# ---- Numbers ----

def side_by_side(digits, rng):
    """Trimmed digits in a row, paper between them."""
    height = max(trimmed(d).shape[0] for d in digits) + 4
    pieces = []
    for digit in digits:
        piece = trimmed(digit)
        drop = int(rng.integers(0, height - piece.shape[0] + 1))
        pieces += [placed(piece, height, piece.shape[1], drop, 0), np.zeros((height, int(rng.integers(3, 9))))]
    return np.hstack(pieces[:-1])


def plain_number(digits, rng):
    return to_image(1 - padded(enlarged(side_by_side(digits, rng), 4), 30))


def photo_number(digits, rng):
    plane = padded(enlarged(side_by_side(digits, rng), 5), 60)
    return camera(lit(coloured(plane, paper_colour(rng), pen_colour(rng)), 0.4, rng), rng)


KINDS = {kind.__name__: kind for kind in (
    rotated, jpeg, inverted, colour, upscaled, corner, deep, palette, photo, alpha,
    ruled, shadow, tight, frame, specks,
    pen, marker, touch, grid, cell, chalk, desk, hand, pencil, notebook, large, board)}
NUMBERS = {"two": (2, plain_number), "three": (3, plain_number), "two-photo": (2, photo_number),
           "three-photo": (3, photo_number)}
EASY = list(KINDS)[:10]
HARD = list(KINDS)[10:15]
