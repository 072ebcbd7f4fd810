"""Line styles of relations: each style has a colour and a dash pattern, so that relations also differ in greyscale.

Relations that differ only in the pair of speakers (`past_0_0`, `past_0_1`, …) share a style, because the nodes of a picture show the
speakers. Relation names of two words (`same_past`, `same_future`, `other_past`, `other_future`) get one colour per first word and one dash
pattern per second word. A relation whose edges only connect different modalities is grey.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

COLOURS = ("#2B5B8F", "#CF6A12", "#2E7D6B", "#8E5AA8", "#6B6B00", "#A33B53")
ACROSS = "#7C8592"
DASHES: tuple[tuple[float, ...], ...] = ((), (4.0, 1.6), (1.2, 1.4), (6.0, 1.5, 1.2, 1.5))  # in line widths: stroke, gap, stroke, gap
MOST = 12  # looks in one picture; further relations share the last


@dataclass(frozen=True)
class Look:
    """The line style of a group of relations.

    Attributes:
        name: Name in the legend.
        colour: Index into `COLOURS`; `None`: the colour `ACROSS`.
        dash: Index into `DASHES`.
    """

    name: str
    colour: int | None
    dash: int

    @property
    def paint(self) -> str:
        """Return the colour as `#RRGGBB`."""
        return ACROSS if self.colour is None else COLOURS[self.colour]


def looks(edge_types: Iterable[tuple[str, str, str]]) -> tuple[list[Look], dict[str, int]]:
    """Return the line styles of a graph, and relation → index of its style.

    Args:
        edge_types: `(source stream, relation, target stream)`, without edges to or from hyperedges.

    >>> found, index = looks([("text", name, "text") for name in ("past_0_0", "past_0_1", "future_0_0", "future_0_1")])
    >>> [look.name for look in found], index["past_0_1"]
    (['past (2 speaker pairs)', 'future (2 speaker pairs)'], 0)
    """
    families: dict[str, list[str]] = {}
    inside: set[str] = set()
    for source, relation, target in edge_types:
        family = re.sub(r"_\d+_\d+$", "", relation)
        members = families.setdefault(family, [])
        if relation not in members:
            members.append(relation)
        if source == target:
            inside.add(family)
    names = list(families)
    shown = names if len(names) <= MOST else names[: MOST - 1]
    place = _places([name for name in shown if name in inside])
    place.update({name: (None, i % len(DASHES)) for i, name in enumerate(name for name in shown if name not in inside)})
    found = [Look(name if len(families[name]) == 1 else f"{name} ({len(families[name])} speaker pairs)", *place[name]) for name in shown]
    if len(shown) < len(names):
        found.append(Look(f"{len(names) - len(shown)} more relations", None, 2))
    return found, {relation: min(i, MOST - 1) for i, name in enumerate(names) for relation in families[name]}


def _places(names: list[str]) -> dict[str, tuple[int | None, int]]:
    """Return name → index of its colour and index of its dash pattern."""
    pairs = [name.partition("_")[::2] for name in names]
    heads, tails = (list(dict.fromkeys(words)) for words in zip(*pairs, strict=True)) if pairs else ([], [])
    if len(heads) > 1 < len(tails) <= len(DASHES) and len(heads) * len(tails) == len(names) and len(heads) <= len(COLOURS) and all(tails):
        return {name: (heads.index(head), tails.index(tail)) for name, (head, tail) in zip(names, pairs, strict=True)}
    return {name: (i % len(COLOURS), (i + i // len(COLOURS)) % len(DASHES)) for i, name in enumerate(names)}
