"""The mapping of labels for all file formats. A label in a file becomes a name of the label set, or `None` if it means "unlabelled".

- `hap`, `Joy`, `NEUTRAL`, and `anger` followed by a space are other spellings of label names.
- `"0.0"` and `2` are indices of the label set.
- `-1`, NaN and `xxx` mean "unlabelled".

The user gets a note on every change.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from erc_graph.data.files.notes import note
from erc_graph.data.files.vocabulary import plain

# Forms of one word, and slips that stand in published files; words that only mean about the same (joy, happy) are none.
FORMS = (
    ("happy", "hap", "happiness", "happines"),
    ("joy", "joyful"),
    ("sad", "sadness"),
    ("angry", "ang", "anger"),
    ("excited", "exc", "excitement"),
    ("frustrated", "fru", "frustration"),
    ("neutral", "neu", "no_emotion"),
    ("surprise", "sur", "surprised"),
    ("fear", "fea", "fearful", "afraid"),
    ("disgust", "dis", "disgusted"),
    ("other", "oth"),
    ("positive", "pos"),
    ("negative", "neg"),
)
NOTHING = {"", "nan", "null", "n/a", "#n/a", "-", "--", "xxx"}  # `xxx` is IEMOCAP's for no agreement


def whole(value: Any) -> int | None:
    """Return a label as an integer if it is a whole number, written as a number or as text; otherwise return `None`.

    >>> whole("0.0"), whole(-1), whole("joy"), whole(2.5)
    (0, -1, None, None)
    """
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return int(number) if abs(number) < 1 << 31 and number == int(number) else None


def is_empty(value: Any) -> bool:
    """Return whether a value means "unlabelled". For -1, the result is False, because -1 is a valid score."""
    return value is None or value != value or str(value).strip().lower() in NOTHING


def translate(values: Iterable[Any], names: Sequence[str] = (), *, others: Sequence[str] = (), what: str = "labels") -> list[Any]:
    """Convert labels to names of the label set, and empty labels to `None`. Labels that match no name stay unchanged.

    Args:
        values: The labels in the file, text or numbers.
        names: The label set in index order. If it is empty, the names in the file are the label set.
        others: Label names of the task, if they differ from `names`. Labels that are words are compared with `others` first.
        what: Name of the labels in notes.

    >>> translate(["hap", "SAD", None], ["happy", "sad"]), translate(["1", 0.0, -1], ["happy", "sad"])
    (['happy', 'sad', None], ['sad', 'happy', None])
    >>> translate(["joy", "Joy", "anger"])
    ['joy', 'joy', 'anger']
    """
    values = [None if is_empty(value) else value.strip() if isinstance(value, str) else value for value in values]
    counts = Counter(values)
    found = [value for value in counts if value is not None]
    numbers = [whole(value) for value in found if value not in names]
    if numbers and all(number is not None and number >= -1 for number in numbers):
        return _indices(values, counts, names, what)
    known = _forms(names) | _forms(others)
    become = {value: value if value in (others or names) else known.get(plain(value), value) for value in found}
    become |= {value: None for value in found if whole(value) == -1 and value not in names}
    if not names:
        become |= _one_case(counts, [value for value in found if isinstance(value, str) and become[value] is not None])
        _note_forms([name for name in become.values() if name is not None], what)
    if changed := [f"{old!r} as {new!r}" if new else f"{old!r} as none" for old, new in become.items() if new != old]:
        note(f"{what}: {', '.join(changed[:6])}{f' and {len(changed) - 6} more' if len(changed) > 6 else ''}")
    return [None if value is None else become[value] for value in values]


def fits(values: Iterable[Any], names: Sequence[str]) -> bool:
    """Return whether there is at least one label, and every label is a name of the label set or another spelling of a name.

    >>> fits(["Happiness", None], ["happy"]), fits(["joy"], ["happy"]), fits([None], ["happy"])
    (True, False, False)
    """
    found = {plain(value) for value in values if not is_empty(value)}
    return bool(found) and found <= _forms(names).keys()


def _forms(names: Sequence[str]) -> dict[str, str]:
    """Return a dictionary: spelling of a name → the name, for all known spellings of all names."""
    forms = {plain(form): name for name in names for words in FORMS if plain(name) in map(plain, words) for form in words}
    return forms | {plain(name): name for name in names}


def _note_forms(names: Sequence[Any], what: str) -> None:
    """Write notes for the user on classes that stay separate: spellings of one word, and numbers if other labels are words."""
    own = {plain(name): name for name in names if isinstance(name, str) and whole(name) is None}
    for words in FORMS:
        if len(same := list(dict.fromkeys(own[plain(form)] for form in words if plain(form) in own))) > 1:
            note(f"{what}: {', '.join(map(repr, same))} stay separate classes; to join them, set `labels` or `dataset` in corpus.toml")
    if own and (numbers := [name for name in dict.fromkeys(names) if _is_number(name)]):
        note(f"{what}: some labels are numbers and others are words, such as {numbers[0]!r}; each number stays a separate class")


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def _one_case(counts: Counter[Any], found: Sequence[str]) -> dict[str, str]:
    """Map names that differ only by case to one spelling: to lower case if it occurs, otherwise to the most frequent spelling."""
    groups: dict[str, list[str]] = {}
    for value in found:
        groups.setdefault(value.casefold(), []).append(value)
    kept = {case: next((one for one in group if one.islower()), max(group, key=lambda one: counts[one])) for case, group in groups.items()}
    return {value: kept[value.casefold()] for value in found}


def _indices(values: Sequence[Any], counts: Counter[Any], names: Sequence[str], what: str) -> list[Any]:
    """Convert indices to names of the label set, or to integers as text without a label set. The index -1 means unlabelled."""
    if absent := sum(times for value, times in counts.items() if value is not None and value not in names and whole(value) == -1):
        note(f"{what}: {absent} labels are -1 and count as unlabelled")
    result: list[Any] = []
    for value in values:
        number = whole(value)
        if value in names:
            result.append(value)
        elif number is None or number == -1:
            result.append(None)
        else:
            result.append(names[number] if number < len(names) else str(number) if not names else value)
    return result
