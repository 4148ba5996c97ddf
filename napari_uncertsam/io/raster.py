"""PNG, JPEG and BMP through Pillow, TIFF through tifffile."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.errors import InputError
from napari_uncertsam.volume import Volume

#: Largest picture that Pillow is asked to decompress, 32,768 x 32,768: above its own limit, which big slides exceed.
MAX_PIXELS = 1 << 30
_STRIP_PIXELS = 1 << 22
#: Modes whose values are taken as they are; others are converted.
_PLAIN_MODES = {"1", "L", "I", "F", "I;16", "I;16L", "I;16B", "RGB", "RGBA"}
_MILLIMETRES = {"nm": 1e-6, "µm": 1e-3, "um": 1e-3, "mm": 1.0, "cm": 10.0, "m": 1000.0}


def read_picture(path: Path, name: str, labels: bool) -> Volume:
    """Read a PNG, JPEG or BMP by its content; raises what Pillow raises."""
    from PIL import BmpImagePlugin, JpegImagePlugin, PngImagePlugin

    with path.open("rb") as file:
        start = file.read(8)
    formats: dict[bytes, Any] = {
        b"\x89PNG": PngImagePlugin.PngImageFile,
        b"\xff\xd8": JpegImagePlugin.JpegImageFile,
        b"BM": BmpImagePlugin.BmpImageFile,
    }
    plugin = next((plugin for magic, plugin in formats.items() if start.startswith(magic)), None)
    if plugin is None:
        raise InputError("it is neither a PNG, JPEG nor BMP image, whatever its name says.")
    # Opened by its own class, so that Pillow's limit on the size, which is global, stays as it is.
    with plugin(path) as image:
        array = _pillow_frame(image, labels)
    return Volume(array, name=name, source=path, rgb=array.ndim == 3)


def read_tiff(path: Path, name: str, labels: bool) -> Volume:
    """Read the first series of a TIFF; raises what tifffile and Pillow raise."""
    import tifffile

    complaints = _Complaints()
    logger = logging.getLogger("tifffile")
    logger.addHandler(complaints)
    try:
        with tifffile.TiffFile(path) as file:
            series = file.series[0]
            if complaints.cut_off:
                raise InputError("it is cut off: pages are missing at its end; copy it again from where it came from.")
            try:
                array, axes = series.asarray(), series.axes
            except ValueError as error:
                if "imagecodecs" not in str(error):
                    raise
                array, axes = _pillow_tiff(path, labels)
            else:
                palette = series.keyframe.colormap
                if palette is not None and not labels and array.dtype.kind == "u" and "S" not in axes:
                    array, axes = (palette[:, array].transpose(*range(1, array.ndim + 1), 0) >> 8), axes + "S"
                    array = array.astype(np.uint8)
            spacing = _ome_spacing(file.ome_metadata)
    finally:
        logger.removeHandler(complaints)
    array, axes = _spatial(array, axes)
    lengths = tuple(spacing.get(axis, 1.0) for axis in ("ZYX" if axes.startswith("Z") else "YX"))
    return Volume(array, spacing=lengths, name=name, source=path, rgb=axes.endswith("S"))


class _Complaints(logging.Handler):
    """Notices that tifffile, which only logs it, could not follow the chain of pages to its end."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.cut_off = False
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        """Look at one message of this thread."""
        if record.thread == self._thread and "invalid page offset" in record.getMessage():
            self.cut_off = True


def _spatial(array: NDArray[Any], axes: str) -> tuple[NDArray[Any], str]:
    """Reduce a TIFF's axes to YX, ZYX, YXS or ZYXS."""
    single = tuple(i for i, (axis, n) in enumerate(zip(axes, array.shape, strict=True)) if n == 1 and axis not in "YXS")
    array, axes = np.squeeze(array, single), "".join(axis for i, axis in enumerate(axes) if i not in single)
    if "S" in axes:
        array, axes = np.moveaxis(array, axes.index("S"), -1), axes.replace("S", "") + "S"
        if array.shape[-1] in (1, 2):  # Grey with alpha.
            array, axes = array[..., 0], axes[:-1]
    if "C" in axes:
        count = array.shape[axes.index("C")]
        raise InputError(f"it has {count} channels (axes {axes}); save the one to be segmented on its own.")
    spatial = axes.removesuffix("S")
    if len(spatial) > 3:
        raise InputError(f"it has {len(spatial)} axes ({spatial}, shape {array.shape}); pick one volume and save it.")
    if not spatial.endswith("YX"):
        raise InputError(f"its axes {axes} are not those of an image; save it as pages of rows and columns.")
    if axes.endswith("S") and array.shape[-1] > 4:
        raise InputError(f"it has {array.shape[-1]} samples per pixel; save the one to be segmented on its own.")
    return array, ("Z" if len(spatial) == 3 else "") + "YX" + ("S" if axes.endswith("S") else "")


def _pillow_tiff(path: Path, labels: bool) -> tuple[NDArray[Any], str]:
    """Read with Pillow what tifffile cannot decompress without its optional codecs: LZW, JPEG and the like."""
    from PIL import TiffImagePlugin

    with TiffImagePlugin.TiffImageFile(path) as image:
        frames = []
        for index in range(getattr(image, "n_frames", 1)):
            image.seek(index)
            frames.append(_pillow_frame(image, labels))
    if len({frame.shape for frame in frames}) > 1:
        raise InputError("its pages differ in size; save the one to be segmented on its own.")
    axes = "YXS" if frames[0].ndim == 3 else "YX"
    return (frames[0], axes) if len(frames) == 1 else (np.stack(frames), "Q" + axes)


def _pillow_frame(image: Any, labels: bool) -> NDArray[Any]:
    """The pixels of an open Pillow image as (H, W) or (H, W, 3 or 4), strip by strip so that they exist only twice."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise InputError(f"it is {height} x {width} pixels large, more than {MAX_PIXELS:,}; crop or shrink it first.")
    if image.mode in ("LA", "La"):
        target = "L"
    elif image.mode in _PLAIN_MODES or (labels and image.mode == "P"):
        target = image.mode
    else:
        target = "RGB"
    image.load()
    picture: NDArray[Any] | None = None
    rows = max(1, _STRIP_PIXELS // max(1, width))
    for top in range(0, height, rows):
        strip = image.crop((0, top, width, min(top + rows, height)))
        values = np.asarray(strip if strip.mode == target else strip.convert(target))
        if target == "1":  # Pillow's true is a byte of 255, which NumPy takes for a bool without looking.
            values = values.view(np.uint8) != 0
        if picture is None:
            picture = np.empty((height, *values.shape[1:]), values.dtype.newbyteorder("="))
        picture[top : top + rows] = values
    if picture is None:
        raise InputError(f"it is empty: {height} x {width} pixels.")
    return picture


def _ome_spacing(metadata: str | None) -> dict[str, float]:
    """Millimetres per pixel along X, Y and Z where OME metadata give them."""
    if not metadata:
        return {}
    from xml.etree import ElementTree

    spacing = {}
    pixels = next((e for e in ElementTree.fromstring(metadata).iter() if e.tag.endswith("}Pixels")), None)
    for axis in "XYZ" if pixels is not None else "":
        size = float(pixels.get(f"PhysicalSize{axis}", "nan"))  # type: ignore[union-attr]
        unit = _MILLIMETRES.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"))  # type: ignore[union-attr]
        if unit is not None and np.isfinite(size) and size > 0:
            spacing[axis] = size * unit
    return spacing
