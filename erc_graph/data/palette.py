"""The colours of emotions. An emotion has the same colour in all figures.

Hues follow common expectations: anger is red, sadness is blue, and joy is yellow. Within every task of `tasks.TASKS`, readers with
red–green colour blindness can also distinguish the colours.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

MISSING = "#D9D9D9"  # no label

_FAMILIES = {
    "#F0BE00": ("joy", "happy", "happiness", "joyful"),
    "#006699": ("sad", "sadness"),
    "#D55E00": ("anger", "angry", "mad", "negative"),
    "#421B8E": ("fear", "scared", "fearful"),
    "#56B4E9": ("surprise", "surprised", "peaceful"),
    "#00B068": ("disgust", "disgusted", "powerful", "positive"),
    "#8C8C8C": ("neutral",),
    "#CDA4D9": ("excited", "excitement"),
    "#7A1F3D": ("frustrated", "frustration"),
}
COLOURS = {name: colour for colour, names in _FAMILIES.items() for name in names}
_OTHERS = ("#44AA99", "#8C510A", "#7F7F00", "#B07AA1", "#332288", "#A6761D")
_SCALE = ("#B2182B", "#E58368", "#B8B8B8", "#6BACD1", "#2166AC")  # negative to positive


def emotion_colour(name: str | None) -> str:
    """Return the colour of an emotion as `#RRGGBB`.

    Synonyms such as joy, happy and happiness share a colour; upper and lower case make no difference.

    An unknown name gets one of six other colours, and always the same colour for the same name. `None` (unlabelled) gets light grey.

    >>> emotion_colour("Joyful") == emotion_colour("happy") == emotion_colour("joy")
    True
    """
    if name is None:
        return MISSING
    key = name.strip().lower()
    return COLOURS.get(key) or _OTHERS[hashlib.sha256(key.encode()).digest()[0] % len(_OTHERS)]


def label_colours(names: Sequence[str]) -> list[str]:
    """Return one colour per label. Colours repeat only if there are more labels than colours.

    Labels that are numbers get the colours of a scale, from red for the first label through grey to blue for the last label.

    >>> label_colours(["joy", "-1"])[0] == emotion_colour("joy")
    True
    >>> label_colours(["-2", "-1", "0", "+1", "+2"])
    ['#B2182B', '#E58368', '#B8B8B8', '#6BACD1', '#2166AC']
    """
    if len(names) > 1 and all(_is_number(name) for name in names):
        return [_between(_SCALE, i / (len(names) - 1)) for i in range(len(names))]
    taken = {COLOURS[key] for name in names if (key := name.strip().lower()) in COLOURS}
    colours = []
    for name in names:
        colour = emotion_colour(name)
        if name.strip().lower() not in COLOURS:
            start = _OTHERS.index(colour)
            ring = (*_OTHERS[start:], *_OTHERS[:start], *_FAMILIES)
            colour = next((other for other in ring if other not in taken), colour)
            taken.add(colour)
        colours.append(colour)
    return colours


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True


def _between(scale: Sequence[str], place: float) -> str:
    """Return the colour at the position `place`, from 0 to 1, of a scale of equidistant colours."""
    low = min(int(place * (len(scale) - 1)), len(scale) - 2)
    share = place * (len(scale) - 1) - low
    ends = [[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in (scale[low], scale[low + 1])]
    return "#" + "".join(f"{round(a + (b - a) * share):02X}" for a, b in zip(*ends, strict=True))
