"""One colour per emotion, the same in every picture.

Hues follow what readers expect (anger red, sadness blue, joy yellow). Within every task of `tasks.TASKS` they differ also for eyes
that cannot tell red from green (tested).
"""

from __future__ import annotations

import hashlib

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


def emotion_colour(name: str | None) -> str:
    """Colour of an emotion as `#RRGGBB`; synonyms (joy, happy, happiness) share one, upper and lower case are the same.

    An unknown name always gets the same one of a few other colours; `None` (unlabelled) is light grey.

    >>> emotion_colour("Joyful") == emotion_colour("happy") == emotion_colour("joy")
    True
    """
    if name is None:
        return MISSING
    key = name.strip().lower()
    return COLOURS.get(key) or _OTHERS[hashlib.sha256(key.encode()).digest()[0] % len(_OTHERS)]
