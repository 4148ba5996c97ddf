"""The numbers that the two papers print, and where: facts, typed in from their tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

#: What rows were computed with. MedSAM-U's "SAM" is of a size that the paper does not name.
HIERA_L = "SAM 2.0 Hiera-L"
SAM, MEDSAM, MPA, UGPA = "SAM 1", "MedSAM", "MedSAM with MPA", "MedSAM with MPA and UGPA"


@dataclass(frozen=True, slots=True)
class Column:
    """A dataset: what a table calls it, and its key in :data:`napari_uncertsam.evaluation.datasets.KNOWN`."""

    title: str
    dataset: str


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """One row of a table.

    Parameters
    ----------
    name : str
        As printed.
    model : str
        What it was computed with.
    values : mapping of str to tuple of float
        By measure (names as in :data:`napari_uncertsam.evaluation.metrics.MEASURES`), a number for every column.
    average : mapping of str to float
        By measure, the mean of the columns as printed; empty where the table has none.
    """

    name: str
    model: str
    values: Mapping[str, tuple[float, ...]]
    average: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class PublishedTable:
    """One table of a paper.

    Parameters
    ----------
    name, caption : str
    columns : tuple of Column
    percent : bool
        Whether the numbers are percentages; fractions otherwise.
    rows : tuple of PublishedRow
        In the printed order.
    """

    name: str
    caption: str
    columns: tuple[Column, ...]
    percent: bool
    rows: tuple[PublishedRow, ...]


def _both(name: str, iou: tuple[float, ...], boundary: tuple[float, ...]) -> PublishedRow:
    """A row of UncertSAM, which stands in both halves of its table: mean IoU, and mean boundary IoU."""
    return PublishedRow(name, HIERA_L, MappingProxyType({"iou": iou, "biou_2": boundary}), MappingProxyType({}))


def _pairs(name: str, model: str, *numbers: float) -> PublishedRow:
    """A row of MedSAM-U: IoU and Dice by turns, of every column and of their average."""
    values = {"iou": numbers[0:-2:2], "dice": numbers[1:-2:2]}
    average = dict(zip(("iou", "dice"), numbers[-2:], strict=True))
    return PublishedRow(name, model, MappingProxyType(values), MappingProxyType(average))


_EIGHT = tuple(
    Column(title, dataset)
    for title, dataset in (
        ("BIG", "big"),
        ("COIFT", "coift"),
        ("COD", "cod10k"),
        ("MSD", "msd-spleen"),
        ("ISTD", "istd"),
        ("SBU", "sbu"),
        ("Flare", "flare7k"),
        ("Trans", "trans10k"),
    )
)
_FIVE = tuple(
    Column(title, dataset)
    for title, dataset in (
        ("Dermoscopy", "isic"),
        ("Colonoscopy", "kvasir-seg"),
        ("Ultrasound", "ct2us"),
        ("CT", "kits23"),
        ("MRI", "brats21"),
    )
)

#: Table 1 of UncertSAM. Its figures 3 and 6 (correlation, Brier score) carry no numbers.
UNCERTSAM = (
    PublishedTable(
        "Table 1",
        "Comparison of uncertainty-guided prediction refinement",
        _EIGHT,
        True,
        (
            _both(
                "Ground truth mask",
                (93.96, 95.65, 89.20, 91.35, 92.52, 87.09, 82.15, 94.92),
                (86.50, 91.25, 83.20, 87.76, 76.92, 80.34, 72.36, 85.15),
            ),
            _both(
                "SAM (No Refinement)",
                (89.95, 94.77, 82.82, 87.86, 65.71, 66.11, 42.82, 84.87),
                (83.81, 89.74, 75.01, 82.69, 47.71, 57.49, 35.47, 69.82),
            ),
            _both(
                "Dense Fusion w/ SAM (Ones Map)",
                (89.82, 94.73, 82.72, 87.91, 66.53, 66.27, 43.12, 85.05),
                (83.34, 89.74, 74.86, 82.71, 48.17, 57.62, 35.32, 69.75),
            ),
            _both(
                "Dense Fusion w/ LA (Ones Map)",
                (89.34, 94.74, 82.54, 87.25, 67.89, 67.37, 46.61, 86.54),
                (83.40, 89.58, 74.47, 81.84, 48.92, 58.04, 36.71, 72.31),
            ),
            _both(
                "Dense Fusion w/ LA",
                (88.58, 94.73, 82.41, 87.49, 67.70, 67.26, 46.19, 86.49),
                (82.40, 89.60, 74.46, 82.21, 48.92, 57.98, 36.48, 72.28),
            ),
        ),
    ),
)

# fmt: off
_TABLE_I = (
    _pairs("SAM 3B (0.5)", SAM, .481, .609, .346, .414, .467, .619, .558, .665, .233, .321, .417, .526),
    _pairs("SAM 3B (0.75)", SAM, .656, .773, .651, .725, .656, .783, .667, .762, .470, .596, .620, .728),
    _pairs("MedSAM 3B (0.5)", MEDSAM, .446, .566, .516, .646, .566, .705, .455, .585, .516, .665, .500, .633),
    _pairs("MedSAM 3B (0.75)", MEDSAM, .778, .861, .811, .880, .873, .931, .661, .763, .664, .785, .758, .844),
    _pairs("MedSAM-U 3B (0.5)", UGPA, .801, .883, .779, .867, .899, .946, .672, .766, .599, .727, .750, .838),
    _pairs("MedSAM-U 3B (0.75)", UGPA, .839, .909, .833, .903, .920, .958, .700, .783, .626, .750, .784, .861),
)
_TABLE_II = (
    _pairs("SAM 3P", SAM, .375, .490, .283, .359, .229, .360, .074, .112, .127, .209, .217, .306),
    _pairs("SAM 10P", SAM, .384, .504, .288, .373, .238, .374, .073, .115, .131, .215, .223, .316),
    _pairs("SAM 3B (0.5)", SAM, .481, .609, .346, .414, .467, .619, .558, .665, .233, .321, .417, .526),
    _pairs("SAM 10P&3B (0.5)", SAM, .504, .644, .368, .467, .344, .504, .182, .280, .229, .347, .325, .448),
    _pairs("MedSAM 3P", MEDSAM, .060, .106, .036, .063, .093, .159, .016, .029, .027, .047, .046, .081),
    _pairs("MedSAM 10P", MEDSAM, .146, .240, .078, .130, .149, .245, .028, .048, .060, .100, .092, .153),
    _pairs("MedSAM 3B (0.5)", MEDSAM, .446, .566, .516, .646, .566, .705, .455, .585, .516, .665, .500, .633),
    _pairs("MedSAM 10P&3B (0.5)", MEDSAM, .341, .467, .281, .388, .153, .240, .270, .386, .284, .406, .266, .377),
    _pairs("MPA-MedSAM 3P", MPA, .125, .188, .063, .096, .194, .280, .002, .003, .009, .015, .079, .117),
    _pairs("MPA-MedSAM 10P", MPA, .266, .374, .113, .174, .371, .497, .005, .009, .014, .024, .154, .216),
    _pairs("MPA-MedSAM 3B (0.5)", MPA, .623, .753, .554, .693, .678, .799, .479, .607, .400, .542, .547, .679),
    _pairs("MPA-MedSAM 10P&3B (0.5)", MPA, .662, .784, .596, .729, .718, .829, .519, .644, .441, .584, .587, .714),
)
# The text of this table has a stray number in some cells; those below reproduce the printed averages.
_TABLE_III = (
    _pairs("w/o UGPA", MPA, .619, .750, .559, .698, .673, .796, .617, .748),
    _pairs("UGPA1: refined 3B", UGPA, .774, .863, .751, .843, .889, .939, .805, .882),
    _pairs("UGPA2: refined 3P & 3B", UGPA, .779, .867, .755, .846, .891, .941, .808, .885),
    _pairs("UGPA3: refined 5P & 3B", UGPA, .796, .880, .784, .871, .898, .945, .826, .899),
    _pairs("UGPA4: refined 10P & 3B", UGPA, .801, .883, .779, .867, .898, .946, .826, .899),
)
_TABLE_IV = (
    _pairs("w/o UGPA", MPA, .792, .877, .766, .859, .885, .938, .814, .892),
    _pairs("UGPA1: refined 3B", UGPA, .815, .892, .800, .880, .909, .952, .842, .908),
    _pairs("UGPA2: refined 3P & 3B", UGPA, .817, .893, .805, .885, .911, .953, .844, .910),
    _pairs("UGPA3: refined 5P & 3B", UGPA, .836, .906, .832, .902, .920, .958, .862, .922),
    _pairs("UGPA4: refined 10P & 3B", UGPA, .839, .909, .833, .903, .920, .958, .864, .923),
)
# fmt: on

#: Tables I to IV of MedSAM-U. Every average is that of its row to within 0.001.
MEDSAM_U = (
    PublishedTable(
        "Table I", "Comparison with other segmentation methods across five datasets", _FIVE, False, _TABLE_I
    ),
    PublishedTable("Table II", "Interactive segmentation models with multi-type prompts", _FIVE, False, _TABLE_II),
    PublishedTable(
        "Table III", "Uncertainty-guided prompt adaptation from boxes of overlap 0.5", _FIVE[:3], False, _TABLE_III
    ),
    PublishedTable(
        "Table IV", "Uncertainty-guided prompt adaptation from boxes of overlap 0.75", _FIVE[:3], False, _TABLE_IV
    ),
)
