"""Drawing of markers and text at positions in inches, so that long names or many utterances do not shift the layout."""

from __future__ import annotations

import warnings
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from erc_graph.data.printable import one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, SOFT, LANE = "#2B2F36", "#6B717B", "#F3F4F6"
# Marker → diameter at which it looks as large as the circle.
_SHAPES = {"o": 1.0, "s": 0.88, "^": 1.08, "D": 0.8, "v": 1.08, "p": 1.05, "h": 1.05, "P": 1.05}
MARKERS = tuple(_SHAPES)
DASHED = (0, (2, 1.6))


@dataclass(frozen=True)
class Pen:
    """Draws markers and text on axes with coordinates in inches; the y axis points down."""

    axes: Axes

    def mark(self, x: Any, y: float, diameter: float, marker: str, fill: Any, **style: Any) -> None:
        """Draw one or several markers at `x`, with a diameter in inches."""
        area = (72 * diameter * _SHAPES[marker]) ** 2
        style = {"linewidths": 0.8, "edgecolors": INK, "zorder": 4, **style}
        self.axes.scatter(x, np.full(np.shape(x), y), s=area, c=fill, marker=marker, **style)

    def text(self, x: float, y: float, text: str, size: float, **style: Any) -> None:
        """Write text at a position, in one font and without mathematical markup."""
        style = {"ha": "left", "va": "center_baseline", "color": INK, "parse_math": False, "zorder": 5, **style}
        self.axes.text(x, y, text, fontsize=size, **style)


def letter(code: int) -> str:
    """Return the letter for a speaker index: A, B, … Z; from the 27th speaker on, return a number: 27, 28, …"""
    return chr(ord("A") + code) if code < 26 else str(code + 1)


def ink_on(colour: str) -> str:
    """Return the text colour, dark or white, that is easier to read on a background colour `#RRGGBB`."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return "#16181C" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.2 else "#FFFFFF"


def width(texts: Iterable[str], size: float, weight: str = "normal") -> float:
    """Return the width of the widest text, in inches."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    font = get_font(findfont(FontProperties(weight=weight)))
    font.set_size(size, 600)  # so fine that rounding to pixels does not matter
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # measured as the box that is drawn
        return max((_advance(font, text) for text in texts), default=0.0)


def _advance(font: Any, text: str) -> float:
    font.set_text(text)
    return float(font.get_width_height()[0]) / 64 / 600 * 1.03  # drawn text is rounded to pixels and a little wider


def shortened(text: str, size: float, room: float) -> str:
    """Shorten text to one line of at most `room` inches."""
    plain = one_line(text, 200)
    most = len(plain)
    while most > 1 and width([plain if most == len(plain) else plain[:most] + "…"], size) > room:
        most = min(most - 1, int(most * max(0.5, room / width([plain[:most]], size)) + 1))
    return plain if most == len(plain) else plain[:most].rstrip() + "…"


def wrapped(text: str, size: float, room: float, most: int) -> list[str]:
    """Wrap text to at most `most` lines of at most `room` inches; words that are too long are broken."""
    words, lines = one_line(text, 200).split(), [""]
    while words and len(lines) <= most:
        word = words.pop(0)
        longer = f"{lines[-1]} {word}".strip()
        if width([longer], size) <= room:
            lines[-1] = longer
        elif lines[-1]:
            lines.append("")
            words.insert(0, word)
        else:
            fits = max(1, bisect_right(range(1, len(word)), room, key=lambda n: width([word[:n]], size)))
            lines[-1] = word[:fits]
            words.insert(0, word[fits:])
            lines.append("")
    if lines[-1] == "":
        lines.pop()
    if words or len(lines) > most:
        lines = lines[:most]
        last = lines[-1]
        while last and width([last + "…"], size) > room:
            last = last[:-1]
        lines[-1] = last.rstrip() + "…"
    return lines
