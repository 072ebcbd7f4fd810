"""Recognition of the data set of a file by the keys of its dialogues; the data set determines the meaning of integer labels."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from erc_graph.data.files.formats.fields import Fields
from erc_graph.data.tasks import IEMOCAP6, MELD7, TASKS
from erc_graph.errors import CorpusError

# Label names by the integers of the pickles. COSMIC's DailyDialog files count differently from the data set itself.
INDEX_NAMES: dict[str, tuple[str, ...]] = {
    "iemocap6": IEMOCAP6,
    "iemocap4": IEMOCAP6[:4],
    "meld": MELD7,
    "emorynlp": TASKS["emorynlp7"].labels,
    "dailydialog": ("happiness", "neutral", "anger", "sadness", "fear", "surprise", "disgust"),
}
MELD_SENTIMENT = ("neutral", "positive", "negative")

# First and last key of MELD's splits in the pickles; key minus first = Dialogue_ID of the split's CSV.
MELD_KEYS = {"train": (0, 1038), "dev": (1039, 1152), "test": (1153, 1432)}

# Dialogues → data set, where nothing but the size tells (MOSI's 93 videos, both versions of EmoryNLP, DailyDialog).
_BY_SIZE = {93: "mosi", 827: "emorynlp", 897: "emorynlp", 13118: "dailydialog"}

SESSION = re.compile(r"Ses0\d")


def recognise(
    fields: Fields, plain: Mapping[Any, str | int], values: list[Any], splits: dict[str, list[Any]], notes: list[str]
) -> tuple[str | None, list[str]]:
    """Return the data set of a file and the names of its dialogues.

    The data set is `fields.dataset`, or is recognised by the dialogue keys or the number of dialogues. Otherwise it is `None`.

    Args:
        fields: Labels, speakers and other contents of the file.
        plain: Dialogue key in the file → the key as text or as an integer.
        values: Label values of all utterances.
        splits: Split → dialogue keys. If `train` also contains the development dialogues of MELD, they are moved to `dev` here.
        notes: Notes for the user, to which assumptions are added.

    Raises:
        CorpusError: the file has dialogues of IEMOCAP, but `fields.dataset` is another data set.
    """
    keys = list(plain.values())
    names = [str(key) for key in keys]
    top = max((value for value in values if type(value) in (int, float)), default=None)
    hint = fields.dataset
    if all(isinstance(key, str) and SESSION.match(key) for key in keys):
        if hint is not None and not hint.startswith("iemocap"):
            raise CorpusError(f"{fields.path}: the dialogues are those of IEMOCAP ({names[0]!r}), but the given data set is {hint!r}")
        return hint or ("iemocap4" if top is not None and top <= 3 else "iemocap6"), names
    numbers = [int(name) if name.isdecimal() and len(name) < 6 else -1 for name in names]
    if fields.maybe_meld and hint in (None, "meld") and _agrees_with_meld(dict(zip(plain, numbers, strict=True)), splits, notes):
        return "meld", [_meld_name(number) for number in numbers]
    if hint is None and fields.maybe_meld and fields.sentiments is not None:
        notes.append("dialogue keys are not 0-1432 as in MELD, so ids are unchanged; labels are read in the order of MELD")
        hint = "meld"
    return hint or _BY_SIZE.get(len(keys)), names


def _agrees_with_meld(numbers: dict[Any, int], splits: dict[str, list[Any]], notes: list[str]) -> bool:
    """Return whether the integer keys of each split are in the range of MELD. Its development dialogues in `train` are moved to `dev`."""
    if not all(0 <= number <= MELD_KEYS["test"][1] for number in numbers.values()):
        return False
    pooled = "dev" not in splits
    for split, keys in splits.items():
        first, last = MELD_KEYS[split]
        if pooled and split == "train":
            last = MELD_KEYS["dev"][1]
        if not all(first <= numbers[key] <= last for key in keys):
            return False
    if pooled and "train" in splits:
        train = splits["train"]
        dev = [key for key in train if numbers[key] >= MELD_KEYS["dev"][0]]
        if dev:
            splits["train"] = [key for key in train if numbers[key] < MELD_KEYS["dev"][0]]
            splits["dev"] = dev
            notes.append(
                f"the file mixes the training and development splits; {len(dev)} development dialogues are recognised by their keys"
            )
    notes.append("dialogue keys are converted to the ids of MELD's CSVs (train_dia0, dev_dia0, test_dia0, …)")
    return True


def _meld_name(number: int) -> str:
    split = next(name for name, (_, last) in MELD_KEYS.items() if number <= last)
    return f"{split}_dia{number - MELD_KEYS[split][0]}"
