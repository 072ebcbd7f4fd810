"""Reader of the CSV files of MELD, one per split, and of the dyadic files with parts of MELD dialogues between two speakers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from erc_graph.data.annotations import Annotations
from erc_graph.data.files.feature_files import AGAIN
from erc_graph.data.files.labels import translate
from erc_graph.data.files.media import split_of_name
from erc_graph.data.files.notes import note
from erc_graph.data.files.utterance_tables import Table, assemble_rows, cell
from erc_graph.data.tasks import MELD7
from erc_graph.errors import CorpusError

COLUMNS = ("Utterance", "Speaker", "Emotion", "Sentiment", "Dialogue_ID", "Utterance_ID")
OLD = ("Old_Dialogue_ID", "Old_Utterance_ID")
SENTIMENTS = ("neutral", "positive", "negative")


def read_meld(content: Any, path: Path, size: int, dataset: str | None = None) -> Annotations | None:
    """Read `{train,dev,test}_sent_emo.csv` of MELD, or the dyadic `…_sent_emo_dya.csv`.

    The split is taken from the file name. Utterances get the ids of MELD, such as `dev_dia1_utt4`. The dyadic files number dialogues
    differently, but the ids use the original numbers, which are in other columns. If an utterance is in several dyadic dialogues, its
    further copies get ids that end in `#2`, `#3` and so on.

    Raises:
        CorpusError: the file name does not contain a split, or an emotion or sentiment is unknown.
    """
    if not isinstance(content, Table) or not {*COLUMNS} <= {*content.columns}:
        return None
    split = split_of_name(path)
    if split is None:
        raise CorpusError(
            f"{path}: a CSV of MELD, whose split is taken from the file name; expected train, dev or test in the name, as in "
            "train_sent_emo.csv"
        )
    dyadic = {*OLD} <= {*content.columns}
    emotions = translate([cell(row["Emotion"]) for row in content.rows], MELD7)
    sentiments = translate([cell(row["Sentiment"]) for row in content.rows], SENTIMENTS, what="sentiments")
    table, seen = [], Counter[str]()
    for row, emotion, sentiment, place in zip(content.rows, emotions, sentiments, content.places, strict=True):
        for what, value, known in (("emotion", emotion, MELD7), ("sentiment", sentiment, SENTIMENTS)):
            if value is not None and value not in known:
                raise CorpusError(f"{path}: {place}: {what} {str(value)[:40]!r} is not one of {', '.join(known)}")
        dialogue, number = cell(row["Dialogue_ID"]).strip(), cell(row["Utterance_ID"]).strip()
        old = [cell(row[name]).strip() for name in OLD] if dyadic else [dialogue, number]
        if not all(old):
            raise CorpusError(
                f"{path}: {place}: empty {' or '.join(OLD if dyadic else COLUMNS[-2:])}; expected dialogue and utterance numbers"
            )
        utterance = f"{split}_dia{old[0]}_utt{old[1]}"
        seen[utterance] += 1
        table.append(
            {
                "dialogue": f"{split}_{'dyadic' if dyadic else 'dia'}{dialogue}",
                "turn": number,
                "utterance": utterance if seen[utterance] == 1 or not dyadic else f"{utterance}{AGAIN}{seen[utterance]}",
                "speaker": cell(row["Speaker"]),
                "text": cell(row["Utterance"]),
                "label": emotion or "",
                "sentiment": sentiment or "",
                "split": split,
                "start": cell(row.get("StartTime")),
                "end": cell(row.get("EndTime")),
            }
        )
    if not dyadic:
        return assemble_rows(table, path, content.places, "MELD's official CSV", "meld")
    again = sum(times > 1 for times in seen.values())
    note(
        f"{path.name}: dyadic dialogues of MELD; features are joined by the ids of MELD ({', '.join(OLD)})"
        + (f", {again} utterances are in several dialogues" if again else "")
    )
    return assemble_rows(table, path, content.places, "MELD's dyadic CSV", "meld-dyadic")
