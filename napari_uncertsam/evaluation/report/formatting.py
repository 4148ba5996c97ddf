"""Numbers as people read them: a true minus, as many decimals as a column needs, and intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

#: Stands for a number that does not exist.
NONE = "\N{EN DASH}"
#: A column has between this many decimals.
_FEWEST, _MOST = 3, 5


def decimals_for(values: Iterable[float | None], unit: str = "") -> int:
    """How many decimals show at least two digits of most values of a column.

    Parameters
    ----------
    values : iterable of float or None
    unit : str
        A "length" has two decimals always.

    Examples
    --------
    >>> decimals_for([0.91, 0.88]), decimals_for([0.01, 0.0042, 0.003]), decimals_for([12.5], "length")
    (3, 4, 2)
    """
    if unit == "length":
        return 2
    sizes = sorted(abs(v) for v in values if v)
    if not sizes:
        return _FEWEST
    return min(max(_FEWEST, 1 - math.floor(math.log10(sizes[len(sizes) // 2]))), _MOST)


def number(value: float | None, decimals: int = _FEWEST) -> str:
    """A number, or a dash where there is none.

    Examples
    --------
    >>> number(0.91234), number(1234.5, 1), number(-0.0001, 2)
    ('0.912', '1,234.5', '0.00')
    >>> number(None) == NONE
    True
    """
    if value is None or not math.isfinite(value):
        return NONE
    text = f"{value:,.{decimals}f}"
    if text.startswith("-"):
        text = text[1:] if not float(text.replace(",", "")) else f"\N{MINUS SIGN}{text[1:]}"
    return text


def signed(value: float | None, decimals: int = _FEWEST) -> str:
    """A difference: a number with its sign.

    Examples
    --------
    >>> signed(0.25, 2), signed(0.0, 1), signed(0.001, 2)
    ('+0.25', '0.0', '0.00')
    """
    text = number(value, decimals)
    positive = value is not None and value > 0 and any(digit in text for digit in "123456789")
    return f"+{text}" if positive else text


def signed_interval(low: float | None, high: float | None, decimals: int = _FEWEST) -> str:
    """An interval of a difference; empty where there is none.

    Examples
    --------
    >>> signed_interval(0.1, 0.25, 2), signed_interval(None, None)
    ('+0.10 to +0.25', '')
    """
    if not interval(low, high, decimals):
        return ""
    return f"{signed(low, decimals)} to {signed(high, decimals)}"


def interval(low: float | None, high: float | None, decimals: int = _FEWEST) -> str:
    """From low to high; empty where there is no interval.

    Examples
    --------
    >>> interval(0.1, 0.25, 2), interval(None, None)
    ('0.10 to 0.25', '')
    """
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return ""
    return f"{number(low, decimals)} to {number(high, decimals)}"


def with_interval(value: float | None, entry: Mapping[str, Any], decimals: int = _FEWEST) -> str:
    """A number with the "low" and "high" of an entry behind it, for running text.

    Examples
    --------
    >>> with_interval(0.5, {"low": 0.25, "high": 0.75}, 2), with_interval(0.5, {"low": None, "high": None}, 2)
    ('0.50 (0.25 to 0.75)', '0.50')
    """
    between = interval(entry["low"], entry["high"], decimals)
    return f"{number(value, decimals)} ({between})" if between else number(value, decimals)


def count(number: int, one: str, many: str = "") -> str:
    """How many there are, in words.

    Examples
    --------
    >>> count(1, "case"), count(1200, "case"), count(2, "box", "boxes")
    ('1 case', '1,200 cases', '2 boxes')
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"
