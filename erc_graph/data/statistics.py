"""Published sizes of data sets, and their comparison with the sizes of a user's corpus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from erc_graph.data.splits import SPLITS

if TYPE_CHECKING:
    from erc_graph.data.corpus import Corpus


@dataclass(frozen=True, kw_only=True)
class Published:
    """Published counts of a data set.

    Attributes:
        dialogues: Number of dialogues.
        utterances: Number of utterances.
        splits: Name of a split → number of dialogues, and number of utterances.
        labelled: Name of a task → numbers of labelled utterances. There are several numbers if releases of the data set differ.
        labels: Name of a task → label → number of utterances.
    """

    dialogues: int
    utterances: int
    splits: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    labelled: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    labels: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


PUBLISHED: dict[str, Published] = {
    # The owners' release: all turns, also those without a label of the six.
    "iemocap": Published(dialogues=151, utterances=10039, labelled={"iemocap4": (5531,)}),
    "iemocap6": Published(
        dialogues=151,
        utterances=7433,
        splits={"test": (31, 1623)},
        labelled={"iemocap4": (5531, 5584), "iemocap4-noexc": (4543,), "iemocap4-merged": (7433,)},
        labels={
            "iemocap6": {"frustrated": 1849, "neutral": 1708, "angry": 1103, "sad": 1084, "excited": 1041, "happy": 648},
        },
    ),
    "iemocap4": Published(dialogues=151, utterances=5531, splits={"test": (31, 1241)}, labelled={"iemocap4": (5531,)}),
    "meld": Published(
        dialogues=1432,
        utterances=13708,
        splits={"train": (1038, 9989), "dev": (114, 1109), "test": (280, 2610)},
        labels={
            "meld7": {"neutral": 6436, "joy": 2308, "surprise": 1636, "anger": 1607, "sadness": 1002, "disgust": 361, "fear": 358},
        },
    ),
    "mosi": Published(dialogues=93, utterances=2199),
}


def check_statistics(corpus: Corpus) -> list[str]:
    """Compare the corpus with the published counts of its data set, and return one sentence per difference.

    The result is empty if no counts are published.

    The name of the data set is `corpus.provenance["dataset"]`. A difference is not an error, because releases of a data set can differ.
    """
    published = PUBLISHED.get(str(corpus.provenance.get("dataset")))
    if published is None:
        return []
    found: list[tuple[str, int, tuple[int, ...]]] = []
    # One of MELD's three files alone is complete in itself: its split is compared, the whole is not.
    whole = len(published.splits) < len(SPLITS) or not corpus.splits or published.splits.keys() <= corpus.splits.keys()
    if whole:
        found.append(("dialogues", len(corpus), (published.dialogues,)))
        found.append(("utterances", corpus.utterances, (published.utterances,)))
    for name, (dialogues, utterances) in published.splits.items():
        if name in corpus.splits:
            ids = corpus.splits[name]
            found.append((f"dialogues in {name}", len(ids), (dialogues,)))
            found.append((f"utterances in {name}", len(corpus.rows(corpus.position[i] for i in ids)), (utterances,)))
    if corpus.task.name in published.labelled:
        found.append((f"labelled utterances for {corpus.task.name}", int(corpus.labelled.sum()), published.labelled[corpus.task.name]))
    counts = Counter(corpus.target.tolist())
    for label, number in published.labels.get(corpus.task.name, {}).items() if whole else ():
        found.append((f"utterances labelled {label}", counts[corpus.task.labels.index(label)], (number,)))
    return [
        f"{corpus.name}: {number} {what}, the published number is {' or '.join(map(str, expected))}"
        for what, number, expected in found
        if number not in expected
    ]
