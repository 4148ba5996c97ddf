"""Make the sample CT: a synthetic abdomen in Hounsfield units with its ground truth, from a seed and nothing else.

    python sample_data/make_abdomen_ct.py [--seed 7] [--out napari_uncertsam/samples]

Nobody was scanned and nothing was copied. Organs are implicit shapes deformed by smooth random fields and filled with
the attenuation and texture of a portal venous scan; they are then "acquired": blurred by a point spread function,
averaged into thick slices (partial volume), with noise that is correlated as filtered back projection leaves it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import nibabel as nib
import numpy as np
from canvas import Array, Canvas, Mask, Point, union
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

SHAPE = (48, 256, 256)  # z, y, x
SPACING = (3.0, 1.3, 1.3)  # mm
#: How the patient lay in the scanner, degrees about the x, y and z axes.
TILT = (4.0, -3.0, 6.0)
#: World RAS millimetres of the middle of the volume.
CENTRE = (3.2, -12.5, -410.0)
BODY, LIVER, SPLEEN, LEFT_KIDNEY, RIGHT_KIDNEY, SPINE, VESSELS, LESION = range(1, 9)
FAT, MUSCLE, CORTICAL = -102.0, 58.0, 480.0


def body_wall(c: Canvas) -> tuple[Array, Array]:
    """Skin, fat, muscles and lungs; returns depth under the skin, and how deep inside the abdominal cavity, in mm."""
    outline = c.ellipsoid((0, 0, 72), (155, 114, 1e6), power=2.3) * (1 + 0.012 * c.noise(90))
    outline = np.maximum(outline, 1 + (c.y - 101 + 0.0012 * c.x**2) / 100)  # Flattened by the couch.
    radius = np.sqrt(c.x**2 + c.y**2) + 1e-3
    depth = (radius * (1 / outline - 1)).astype(np.float32)
    side, front, back = (c.x / radius) ** 2, np.maximum(-c.y / radius, 0) ** 2, np.maximum(c.y / radius, 0) ** 2
    fat = 13 + 5 * side + 8 * front - 3 * back + 1.2 * c.noise(50)
    thin = np.exp(-((c.x / 5) ** 2)) + 0.7 * np.exp(-(((np.abs(c.x) - 66 - 3 * c.noise(40)) / 7) ** 2))
    wall = (13 + 4 * back - 2 * front + 1.3 * c.noise(35)) * (1 - 0.8 * thin * (c.y < -40))
    c.paint(depth > 0, -20.0, BODY)
    c.paint(depth > 2, FAT + 6 * c.noise(6))
    inside = depth - fat - wall
    layers = np.abs(np.mod((depth - fat) / 5.0 + 0.2 * c.noise(30), 1) - 0.5) > 0.39
    flesh = MUSCLE + 5 * c.noise(4) - 95 * (layers & (side > 0.4) & (c.z < 125))
    c.paint((depth > fat) & (inside < 0), flesh)
    # The lungs reach down behind and beside the upper abdomen; the diaphragm separates them from the organs.
    recess = 0.021 * np.maximum(c.z - 104 - 22 * front + 12 * back + 2 * c.noise(50), 0) ** 2
    cavity = inside - recess
    c.paint(inside >= 0, FAT + 6 * c.noise(7, 2))
    c.paint((inside >= 0) & (cavity < 3), MUSCLE)
    lung = -860 + 28 * c.noise(9, 2)
    lung[c.noise(7) > 2.0] = 10
    c.paint((inside >= 1) & (cavity < 0), lung)
    return depth, cavity


def muscles(c: Canvas, depth: Array) -> None:
    """Psoas, quadratus lumborum, paraspinal muscles and the crura of the diaphragm."""
    flesh = MUSCLE + 5 * c.noise(4)
    marbling = c.noise(9, 2)
    for s in (-1, 1):
        psoas = c.tube([(s * 24, 42, 138), (s * 35, 40, 60), (s * 45, 33, -20)], [5, 15, 22])
        quadratus = c.ellipsoid((s * 63, 62, 0), (17, 10, 84), turn=-s * 25)
        erector = c.ellipsoid((s * 29, 78, 70), (27, 17, 1e6), power=2.6) + 0.04 * marbling
        for field, cut in ((psoas, 9.0), (quadratus, 9.0), (erector, 1.5)):
            c.paint((field > 0.97) & (field < 1.09) & (depth > 9), FAT)
            c.paint((field < 1) & (depth > 7), flesh)
            c.paint((field < 1) & (depth > 7) & (marbling > cut), -40.0)
        crus = c.tube([(s * 14, 22, 160), (s * 13, 24, 90), (s * 9, 27, 40)], [6, 5, 3])
        c.paint(crus < 1, flesh)


def bone(c: Canvas, field: Array, shell: float, texture: Array, label: int | None = None, spongy: float = 150) -> None:
    """Spongy bone inside a cortical shell."""
    inside = field < 1
    c.hu[inside] = np.where(field[inside] > shell, CORTICAL, spongy + 26 * texture[inside])
    if label is not None:
        c.labels[inside] = label


def spine(c: Canvas, texture: Array) -> None:
    """Vertebral bodies, discs, the canal and the processes."""
    period, disc = 35.0, 8.5
    phase = np.mod(c.z - 12, period)
    waist = 1 - 0.07 * np.sin(np.pi * np.clip((phase - disc) / (period - disc), 0, 1))
    body = c.ellipsoid((0, 42, 72), (24, 17.5, 1e6), power=2.3) / waist
    body = np.maximum(body, 1 + (10 - np.sqrt(c.x**2 + (c.y - 69) ** 2)) / 25)
    endplate = np.minimum(np.abs(phase - disc), np.minimum(phase, period - phase)) < 1.3
    for middle in np.arange(12 + disc + (period - disc) / 2 - period, 190, period):
        z = float(middle)
        for s in (-1, 1):
            bone(c, c.tube([(s * 14, 52, z + 4), (s * 17, 66, z + 3)], [5.5, 6]), 0.62, texture, SPINE)
            bone(c, c.tube([(s * 17, 65, z + 2), (s * 43, 69, z + 3)], [5.0, 3.6]), 0.55, texture, SPINE)
            bone(c, c.tube([(s * 19, 68, z + 14), (s * 18, 70, z - 14)], [6.5, 7.0]), 0.66, texture, SPINE)
            bone(c, c.tube([(s * 16, 69, z), (0, 80, z - 5)], [4.5, 5]), 0.6, texture, SPINE)
        bone(c, c.tube([(0, 79, z - 4), (0, 94, z - 11)], [4.5, 5.5]), 0.55, texture, SPINE)
    bone(c, np.where(phase < disc, 9, body).astype(np.float32), 0.91, texture, SPINE, spongy=185)
    c.paint((body < 1) & endplate & (phase >= disc), 330.0, SPINE)
    c.paint((body < 1.03) & (phase < disc), 85 + 6 * c.noise(5), SPINE)
    canal = c.ellipsoid((0, 67.5, 72), (11, 8.5, 1e6))
    c.paint(canal < 1, -60.0, SPINE)
    c.paint(canal < 0.8, 28.0, SPINE)


def ribs(c: Canvas, texture: Array) -> None:
    """Ribs that run down and forward in the wall, and the cartilage of the costal arch."""
    for back_z, end in ((96, 0.30), (126, 0.50), (156, 0.78), (186, 0.86), (214, 0.88), (240, 0.9), (266, 0.92)):
        for s in (-1, 1):
            path: list[Point] = []
            for t in np.linspace(0.1, end, 14):
                angle = np.pi / 2 - np.pi * t  # From the back over the side to the front.
                r = (np.abs(np.cos(angle) / 138) ** 2.3 + np.abs(np.sin(angle) / 92) ** 2.3) ** (-1 / 2.3)
                path.append((s * r * np.cos(angle), r * np.sin(angle), back_z - 95 * t**1.2))
            bone(c, c.tube(path, [5.2] * len(path)), 0.66, texture)
            if end > 0.7:
                x, y, z = path[-1]
                c.paint(c.tube([path[-1], (0.7 * x, y - 6, z + 12), (0.4 * x, y - 8, z + 34)], [5.5, 6, 6]) < 1, 105.0)


def liver(c: Canvas, cavity: Array, keep_off: Array) -> Mask:
    """A large right lobe, a left lobe across the midline, kept off the gallbladder and the right kidney."""
    field = c.ellipsoid((-70, -6, 104), (80, 84, 60), tilt=-8)
    field = union(field, c.ellipsoid((-98, 14, 64), (36, 50, 44)), 0.3)
    field = union(field, c.ellipsoid((8, -50, 118), (80, 36, 33), turn=-10, tilt=-6), 0.25) + 0.04 * c.noise(45, 2)
    fissure = (np.abs(c.x + 22 + 0.25 * (c.y + 60) + 3 * c.noise(25)) < 0.06 * (-30 - c.y)) & (c.z < 116)
    inside: Mask = (field < 1) & (cavity > 4) & (keep_off > 1) & ~fissure
    c.paint(inside, 112 + 4 * c.noise(12, 3), LIVER)
    return inside


def hepatic_twigs(c: Canvas, liver_mask: Mask) -> Mask:
    """Small vessels that fan out from the hilum and from the veins' mouth to the surface of the liver."""
    where = np.argwhere(liver_mask)
    twigs = np.zeros(c.shape, bool)
    for index in c.rng.integers(0, len(where), 70):
        end = np.array([axis.ravel()[i] for axis, i in zip((c.z, c.y, c.x), where[index], strict=True)])[::-1]
        start = np.array((-60.0, -14, 98)) if c.rng.random() < 0.5 else np.array((-45.0, -8, 132))
        near = start + (end - start) * 0.35
        bend = (near + end) / 2 + c.rng.normal(0, 7, 3)
        twigs |= c.tube([tuple(near), tuple(bend), tuple(end)], [2.3, 1.9, 1.2]) < 1
    return twigs & liver_mask


def vessels(c: Canvas, liver_mask: Mask) -> None:
    """Aorta, vena cava, and the portal, hepatic, renal, splenic and mesenteric vessels."""
    aorta = c.tube([(13, 10, 160), (12, 13, 100), (9, 16, 50), (6, 18, -20)], [12, 11, 10, 9.5])
    cava = c.tube([(-26, -2, 160), (-26, 3, 115), (-23, 15, 70), (-18, 17, -20)], [14, 12.5, 11.5, 11])
    portal: list[tuple[list[Point], list[float]]] = [
        ([(-6, -18, -10), (-7, -16, 40), (-12, -16, 74), (-38, -18, 92), (-62, -14, 99)], [5.5, 6, 7.5, 7, 6]),
        ([(-62, -14, 99), (-84, -2, 104), (-106, 12, 112)], [5.5, 4.5, 2.5]),
        ([(-62, -14, 99), (-84, -32, 92), (-98, -48, 84)], [5, 4, 2.2]),
        ([(-48, -17, 96), (-32, -34, 110), (2, -52, 118)], [4.5, 4, 2.2]),
        ([(-11, -15, 75), (25, -3, 84), (62, 12, 95), (88, 26, 102)], [6, 4.5, 4, 3]),
    ]
    hepatic: list[tuple[list[Point], list[float]]] = [
        ([(-28, 0, 140), (-60, 8, 132), (-104, 14, 118)], [6.5, 5.5, 2.5]),
        ([(-28, -6, 140), (-46, -34, 130), (-62, -62, 112)], [6, 5, 2.5]),
        ([(-24, -8, 141), (-6, -34, 134), (22, -58, 122)], [5.5, 4.5, 2.2]),
    ]
    renal: list[tuple[list[Point], list[float]]] = [
        ([(-22, 14, 60), (-40, 28, 58), (-50, 34, 57)], [5, 5, 4]),
        ([(-20, 10, 66), (8, 1, 68), (36, 18, 68), (52, 32, 68)], [5, 4.5, 5, 4]),
        ([(10, 16, 62), (34, 28, 63), (54, 36, 64)], [4, 3, 2.5]),
        ([(8, 16, 60), (-24, 29, 57), (-48, 37, 55)], [4, 3, 2.5]),
        ([(11, 4, 86), (9, -8, 66), (9, -16, 30), (8, -20, -10)], [4.5, 4, 4, 3.5]),
        ([(12, 2, 98), (16, -14, 101), (46, -4, 101), (84, 26, 104)], [4.5, 3.5, 3, 2]),
    ]
    for path, radii in portal + hepatic + renal:
        hu = 168.0 if (path, radii) in portal else 158.0
        c.paint(c.tube(path, radii) < 1, hu, VESSELS)
    c.paint(hepatic_twigs(c, liver_mask), 160.0, VESSELS)
    c.paint(cava < 1, 142 + 6 * c.noise(12), VESSELS)
    c.paint(aorta < 1, 162 + 2 * c.noise(10), VESSELS)
    c.paint((aorta < 1.04) & (aorta > 0.9) & (c.noise(9) > 2.0), 650.0, VESSELS)  # Plaques.


def lesion(c: Canvas, liver_mask: Mask) -> None:
    """A hypodense metastasis with a blurred rim in the right lobe."""
    field = c.ellipsoid((-92, -22, 78), (17, 15, 15), turn=25) + 0.09 * c.noise(12, 2)
    hu = 52 + 34 * np.clip((field - 0.55) / 0.45, 0, 1) + 4 * c.noise(5)
    c.paint((field < 1) & liver_mask, hu.astype(np.float32), LESION)


def kidney(c: Canvas, side: int, centre: Point, label: int) -> None:
    """Cortex, pyramids, and a sinus of fat with the pelvis, open towards the middle."""
    field = kidney_field(c, side, centre) + 0.035 * c.noise(18)
    x, y, z = centre
    c.paint((field < 1.32) & (c.labels == BODY) & (c.hu > -90) & (field > 1), FAT)
    pyramids = (field < 0.8) & (c.noise(9) > 0.15)
    hu = np.where(pyramids, 150, 192) + 5 * c.noise(6)
    sinus = c.ellipsoid((x - side * 15, y - 9, z), (19, 8, 25), turn=side * 32) + 0.12 * c.noise(8)
    c.paint((field < 1) & (sinus > 1), hu.astype(np.float32), label)
    c.paint((sinus < 1) & (field < 1.1), -80.0)
    c.paint((sinus < 0.5) & (field < 1.1), 14.0)
    c.paint(
        c.tube([(x - side * 14, y - 8, z - 6), (x - side * 24, y - 8, z - 28), (side * 36, 16, -20)], [4, 3, 2.5]) < 1,
        18.0,
    )


def kidney_field(c: Canvas, side: int, centre: Point) -> Array:
    """A kidney without its details: turned forward, its upper pole towards the spine."""
    return c.ellipsoid(centre, (28, 24, 54), turn=side * 32, tilt=side * 9, power=2.2)


def stomach(c: Canvas, cavity: Array, content: Array) -> None:
    """Fluid and food with an air level in front, since the patient lies on the back."""
    radii = [30.0, 31, 25, 18, 13]
    field = c.tube(
        [(64, -4, 142), (72, -28, 112), (56, -54, 88), (16, -58, 74), (-20, -40, 78)], radii
    ) + 0.05 * c.noise(28)
    inside = (field < 1) & (cavity > 4)
    c.paint(inside, 78 + 4 * c.noise(5), BODY)
    lumen = inside & (field < 0.86) & (cavity > 8)
    c.paint(lumen, 24 + 9 * content)
    c.paint(lumen & (c.y < -58), -960.0)


def colon(c: Canvas, cavity: Array, content: Array) -> None:
    """Stool on the right and left, gas in front; haustra by noise on the radius."""
    path: list[Point] = [
        *[(-102, -2, -30), (-104, 2, 12), (-94, -24, 36), (-58, -64, 34), (-4, -74, 26), (56, -66, 44)],
        *[(98, -26, 74), (110, 8, 64), (111, 20, 26), (104, 22, -30)],
    ]
    field = c.tube(path, [23, 23, 20, 16, 15, 17, 18, 15, 13, 13]) + 0.11 * c.noise(15)
    inside = (field < 1) & (cavity > 3) & np.isin(c.labels, (BODY,))
    c.paint(inside, 62.0)
    lumen = inside & (field < 0.84) & (cavity > 5)
    bubbles = np.where(content > 0.7, -330, np.where(content > 0.35, -80, 30))
    c.paint(lumen, (bubbles + 14 * c.noise(4)).astype(np.float32))
    c.paint(lumen & (c.y < -0.35 * np.abs(c.x) - 46 + 3 * c.noise(60)), -950.0)


def small_bowel(c: Canvas, cavity: Array) -> None:
    """Packed loops: cells around random points, with walls where two cells meet and mesentery in the gaps."""
    room = np.maximum(c.ellipsoid((8, -34, 0), (86, 46, 84), power=2.5), 0) + 0.05 * c.noise(30)
    free = (room < 1) & (cavity > 6) & (c.labels == BODY) & (c.hu < -60) & (c.hu > -150)
    index = np.argwhere(free)
    places = np.column_stack([axis.ravel()[i] for axis, i in zip((c.z, c.y, c.x), index.T, strict=True)])
    places += np.column_stack([5.5 * c.noise(22)[free] for _ in range(3)])
    low, high = places.min(0), places.max(0)
    seeds = low + (high - low) * c.rng.random((int(np.prod((high - low) / 24)), 3))
    distance, cell = cKDTree(seeds).query(places.astype(np.float32), k=2)
    gap = distance[:, 1] - distance[:, 0]
    loop = c.rng.random(len(seeds)) < 0.72  # The rest of the cells is mesentery.
    fluid = c.rng.uniform(12, 62, len(seeds))[cell[:, 0]]
    wall = c.rng.uniform(85, 115, len(seeds))[cell[:, 0]]
    hu = np.where((gap > 7.5) & (distance[:, 0] < 10.5), fluid, wall)
    inside = loop[cell[:, 0]] & (gap > np.where(loop[cell[:, 1]], 1.6, 3.5)) & (distance[:, 0] < 13.5)
    c.hu[tuple(index[inside].T)] = hu[inside]


def mesentery(c: Canvas, cavity: Array) -> None:
    """Threads of small vessels in the fat between the bowel loops."""
    a, b = c.noise(16, 2), c.noise(16, 2)
    fat = (cavity > 6) & (c.labels == BODY) & (c.hu < -70) & (c.hu > -150)
    c.paint(fat & (np.hypot(a, b) < 0.16) & (c.z < 100), 70.0)


def pancreas(c: Canvas, lobules: Array) -> None:
    """Head at the duodenum, tail towards the spleen, lobulated by fat."""
    field = c.tube([(-30, -8, 58), (-20, -14, 72), (14, -14, 82), (50, -2, 92), (84, 18, 102)], [14, 12, 9, 9, 7])
    duodenum = c.tube([(-30, -34, 82), (-46, -14, 72), (-46, 2, 50), (-24, 0, 34), (10, -2, 32)], [13, 12, 12, 11, 10])
    c.paint(duodenum < 1, 92.0)
    c.paint(duodenum < 0.72, 24.0)
    c.paint(field + 0.22 * lobules < 1, 104 + 4 * c.noise(5))


def couch(c: Canvas) -> None:
    """The table: two thin shells of carbon fibre around foam."""
    top = c.y - (107 - 0.0009 * c.x**2)
    board = (c.labels == 0) & (top > 0) & (top < 26)
    c.paint(board, -930.0)
    c.paint(board & ((top < 3.2) | (top > 22.8)), 130.0)


def paint_patient(c: Canvas) -> None:
    """Everything, from the skin inwards; what is painted later covers what was there."""
    depth, cavity = body_wall(c)
    muscles(c, depth)
    left, right = (68.0, 40.0, 66.0), (-66.0, 42.0, 54.0)
    kidneys = np.minimum(kidney_field(c, 1, left), kidney_field(c, -1, right)) / 1.12
    spinal = c.ellipsoid((6, 45, 72), (47, 42, 1e6), power=2.4)
    gallbladder = c.ellipsoid((-54, -52, 66), (15, 22, 24), turn=-20, tilt=15)
    content = c.noise(7, 3)
    pancreas(c, c.noise(7))
    stomach(c, cavity, content)
    liver_mask = liver(c, cavity, np.minimum(np.minimum(kidneys, spinal), gallbladder / 1.06))
    spleen = c.ellipsoid((98, 36, 108), (25, 50, 44), turn=28, tilt=-12) + 0.05 * c.noise(40)
    gastric = c.ellipsoid((58, 0, 118), (33, 42, 60)) / 1.05
    c.paint((spleen < 1) & (cavity > 4) & (kidneys > 1) & (gastric > 1), 122 + 4 * c.noise(9, 2), SPLEEN)
    c.paint(gallbladder < 1, 40.0, BODY)
    c.paint(gallbladder < 0.9, 8.0, BODY)
    colon(c, cavity, content)
    small_bowel(c, cavity)
    mesentery(c, cavity)
    kidney(c, 1, left, LEFT_KIDNEY)
    kidney(c, -1, right, RIGHT_KIDNEY)
    vessels(c, liver_mask)
    lesion(c, liver_mask)
    trabeculae = c.noise(3)
    spine(c, trabeculae)
    ribs(c, trabeculae)
    couch(c)


def acquire(c: Canvas, fine: int) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """Blur, average into voxels, add reconstruction noise and round; labels by majority."""
    blocks = tuple(v for n in SHAPE for v in (n, fine))
    blur = [0.5 * fine, 0.62 * fine, 0.62 * fine]
    hu = ndimage.gaussian_filter(c.hu, blur, truncate=3).reshape(blocks).mean((1, 3, 5))
    votes = [(c.labels == label).reshape(blocks).mean((1, 3, 5), dtype=np.float32) for label in range(LESION + 1)]
    labels = np.argmax(votes, axis=0).astype(np.uint8)
    # Back projection leaves noise without low frequencies, smoothed by the kernel, and more of it deep in the body.
    frequency = np.hypot(np.fft.fftfreq(SHAPE[1])[:, None], np.fft.fftfreq(SHAPE[2]))
    kernel = np.sqrt(frequency) * np.exp(-((frequency / 0.24) ** 2))
    noise = np.fft.ifft2(np.fft.fft2(c.rng.normal(size=SHAPE)) * kernel).real
    noise = ndimage.gaussian_filter1d(noise, 0.45, axis=0)
    deep = ndimage.gaussian_filter((labels > 0).astype(np.float32), (0, 22, 22))
    hu = hu + noise / noise.std() * (3 + 9 * deep)
    y, x = (np.arange(n) - (n - 1) / 2 for n in SHAPE[1:])
    hu[:, np.hypot(y[:, None], x) > SHAPE[1] / 2] = -1024  # Outside the scanner's circle.
    return np.clip(np.rint(hu), -1024, 3071).astype(np.int16), labels


def affine() -> NDArray[np.float64]:
    """From stored indices (x, y, z) to RAS: x grows to the patient's left and y to the back, so both are flipped."""
    matrix = np.eye(4)
    axes = np.diag([-SPACING[2], -SPACING[1], SPACING[0]])
    matrix[:3, :3] = Rotation.from_euler("xyz", TILT, degrees=True).as_matrix() @ axes
    matrix[:3, 3] = CENTRE - matrix[:3, :3] @ ((np.array(SHAPE[::-1]) - 1) / 2)
    return matrix


def save(path: Path, array: NDArray[np.int16] | NDArray[np.uint8], description: str) -> None:
    """Write a (z, y, x) array as NIfTI in its stored order (x, y, z)."""
    image = nib.Nifti1Image(array.T, affine())
    image.set_sform(affine(), code=1)
    image.set_qform(affine(), code=1)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = description.encode()
    if array.dtype == np.uint8:
        image.header.set_intent("label")
    image.to_filename(path)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--fine", type=int, default=2, help="sub-voxels along each axis; 1 for a quick look")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "napari_uncertsam" / "samples")
    options = parser.parse_args()
    shape = tuple(n * options.fine for n in SHAPE)
    spacing = tuple(s / options.fine for s in SPACING)
    canvas = Canvas(shape, spacing, np.random.default_rng(options.seed))
    paint_patient(canvas)
    hu, labels = acquire(canvas, options.fine)
    options.out.mkdir(parents=True, exist_ok=True)
    save(options.out / "abdomen_ct.nii.gz", hu, f"synthetic CT, seed {options.seed}")
    save(options.out / "abdomen_labels.nii.gz", labels, "1 body 2 liver 3 spleen 4 LK 5 RK 6 spine 7 vessels 8 lesion")


if __name__ == "__main__":
    main()
