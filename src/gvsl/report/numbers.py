"""Figures as the reader sees them: one way to write a number, everywhere in the report."""

import math

MISSING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"


def number(value: float | None, digits: int = 3, signed: bool = False) -> str:
    """Write `value` with so many decimals and a true minus sign; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return MISSING
    text = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
    if float(text) == 0:  # -0.0004 is 0.000, not a negative nothing
        text = text.replace("-", "+" if signed else "")
    return text.replace("-", MINUS)


def short(value: float) -> str:
    """Write `value` to two digits that count, however small or large it is."""
    return f"{value:.2g}".replace("-", MINUS)


def percent(value: float | None, digits: int = 2) -> str:
    """Write a share of 0 to 1 as a percentage."""
    return MISSING if value is None or not math.isfinite(value) else f"{number(100 * value, digits)} %"


def plus_minus(value: float | None, digits: int = 3) -> str:
    """Write a spread as ± so much; a dash where there is none."""
    return MISSING if value is None or not math.isfinite(value) else f"± {number(value, digits)}"


def duration(seconds: float) -> str:
    """Write a duration in the largest two units that it fills."""
    whole = round(seconds)
    if whole < 60:
        return f"{number(seconds, 1)} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def capital(sentence: str) -> str:
    """Begin a sentence with a capital and leave the rest as it is."""
    return sentence[:1].upper() + sentence[1:]


def plural(count: int, thing: str) -> str:
    """Write a count with its thing: 1 case, 2 cases."""
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"
