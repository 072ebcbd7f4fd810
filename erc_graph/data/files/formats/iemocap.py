"""Reader of the official release of IEMOCAP: texts in `dialog/transcriptions`, labels in `dialog/EmoEvaluation`, audio in `sentences/wav`.

Busso et al., *IEMOCAP: interactive emotional dyadic motion capture database*, Language Resources and Evaluation 2008.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from erc_graph.data.annotations import Annotations
from erc_graph.data.files.budget import content_of
from erc_graph.data.files.encoding import decode
from erc_graph.data.files.notes import note
from erc_graph.data.files.sequence_files import join_sequences, read_sounds
from erc_graph.data.files.storage import stay_inside
from erc_graph.errors import ConfigError, CorpusError

TRANSCRIPTS, LABELS, SOUND = "dialog/transcriptions", "dialog/EmoEvaluation", "sentences/wav"
NAMES = {
    "hap": "happy", "sad": "sad", "neu": "neutral", "ang": "angry", "exc": "excited", "fru": "frustrated", "sur": "surprised",
    "fea": "fearful", "dis": "disgusted", "oth": "other", "xxx": None,
}  # fmt: skip
_TURN = re.compile(
    r"(?P<id>(?P<dialogue>Ses\d\d[FM]_\w+?)_(?P<who>[FM])(?P<number>\w\w\w)) ?\[ ?(?P<start>[\d.]+) ?- ?(?P<end>[\d.]+) ?\]:?(?P<text>.*)"
)
_LABEL = re.compile(
    r"\[(?P<start>[\d.]+) - (?P<end>[\d.]+)\]\t(?P<id>(?P<dialogue>Ses\d\d[FM]_\w+?)_(?P<who>[FM])\w\w\w)\t(?P<label>\w+)\t.*"
)


@dataclass(frozen=True, kw_only=True)
class Turn:
    """An utterance in a transcription or label file: its id, dialogue and speaker, and its start and end in seconds."""

    id: str
    dialogue: str
    speaker: str
    start: float | None
    end: float | None
    text: str = ""
    label: str | None = None


def read_iemocap(content: Any, path: Path, size: int, dataset: str | None = None) -> Annotations | None:
    """Read IEMOCAP transcriptions (`dialog/transcriptions/*.txt`) with the labels in the folder `EmoEvaluation`, or label files alone.

    A speaker is named by session and gender, such as `Ses01F`. Utterances without a label, such as `MXX0`, remain in the corpus as context.

    Raises:
        CorpusError: a line is damaged, or most labels belong to utterances that the transcription lacks.
    """
    if not isinstance(content, str):
        return None
    turns = _transcription(content, path)
    form = "transcription"
    if turns:
        beside = path.parent.parent / "EmoEvaluation" / path.name
        labels = _evaluation(_text(beside), beside) if beside.is_file() else []
        if not labels:
            note(f"{path.name}: no EmoEvaluation/{path.name} next to its folder, so there are no labels")
        turns = _labelled(turns, labels, beside)
    else:
        turns, form = _evaluation(content, path), "evaluation"
        if not turns:
            return None
        note(f"{path.name}: the file has only labels; the texts are in dialog/transcriptions")
    return _annotations(turns, f"IEMOCAP's {form}", dataset)


def is_release(folder: Path) -> bool:
    """Return whether a folder is the official release of IEMOCAP, or one of its sessions."""
    return any((session / TRANSCRIPTS).is_dir() for session in _sessions(folder))


def release_annotations(folder: Path) -> Annotations:
    """Read the official release of IEMOCAP: dialogues, texts, speakers, times, labels and audio of all sessions.

    The release defines no splits. Session 5 is the test split, as in most papers.

    Raises:
        CorpusError: a file is damaged, or there is no transcription.
    """
    turns: list[Turn] = []
    sounds: dict[str, Path] = {}
    bare = []
    for session in _sessions(folder):
        files = sorted(file for file in (session / TRANSCRIPTS).glob("Ses*.txt"))
        for file in files:
            found = _transcription(_text(file), file)
            if not found:
                raise CorpusError(f"{file}: no line of an IEMOCAP transcription found, such as `Ses01F_impro01_F000 [006.29-008.24]: …`")
            beside = session / LABELS / file.name
            bare += [] if beside.is_file() else [file.stem]
            turns += _labelled(found, _evaluation(_text(beside), beside), beside) if beside.is_file() else found
        sounds |= {file.stem: file for file in sorted((session / SOUND).glob("Ses*/Ses*.wav"))}
    if not turns:
        raise CorpusError(f"{folder}: no Ses*.txt in {TRANSCRIPTS}; expected the transcriptions of IEMOCAP there")
    if bare:
        note(f"{len(bare)} dialogues have no file in {LABELS}, so they have no labels (first: {bare[0]})")
    annotations = _annotations(turns, "IEMOCAP's release", "iemocap")
    tested = {name for name in annotations.dialogue_ids if name.startswith("Ses05")}
    if tested and len(tested) < len(annotations.dialogue_ids):
        note("the release of IEMOCAP has no splits; session 5 is the test split and sessions 1 to 4 are for training, as in most papers")
        annotations.splits = {
            "train": [name for name in annotations.dialogue_ids if name not in tested],
            "test": [name for name in annotations.dialogue_ids if name in tested],
        }
    heard = {name: sounds[name] for name in annotations.utterance_ids if name in sounds}
    if heard:
        try:
            ids, waves = read_sounds(folder / SOUND, heard, notes=annotations.notes)
            annotations.sequences["audio"], _ = join_sequences(ids, waves, annotations.utterance_ids)
        except ConfigError as error:
            note(f"the audio is not used: {error}")
    if absent := len(annotations.utterance_ids) - len(heard):
        note(f"{absent} of {len(annotations.utterance_ids)} utterances have no file in {SOUND}")
    return annotations


def _sessions(folder: Path) -> list[Path]:
    """Return the session folders of a release, or the folder itself if it is a session."""
    found = sorted(path for path in folder.glob("Session[1-5]") if path.is_dir())
    return [stay_inside(path) for path in found] or [folder]


def _text(path: Path) -> str:
    return decode(content_of(stay_inside(path)), path)


def _transcription(text: str, path: Path) -> list[Turn]:
    """Return the utterances in the order of the file. Lines without an utterance id, such as `M: [LAUGHTER]`, are left out."""
    others = 0
    turns: list[Turn] = []
    for line in text.splitlines():
        found = _TURN.fullmatch(line.strip())
        if found is None:
            others += bool(line.strip())
            if not turns and others > 5:
                return []
            continue
        turns.append(_turn(found, text=found["text"].strip()))
    if turns and others:
        note(f"{path.name}: {others} lines without an utterance id are left out")
    return turns


def _evaluation(text: str, path: Path) -> list[Turn]:
    """Return the majority label of every utterance. Lines of single annotators are not read."""
    turns = []
    if "EMOTION [V, A, D]" not in text[:400]:
        return []
    for line in text.splitlines():
        if found := _LABEL.fullmatch(line.strip()):
            label = found["label"]
            if label not in NAMES:
                raise CorpusError(f"{path}: {found['id']}: label {label!r} is not one of {', '.join(NAMES)}")
            turns.append(_turn(found, label=NAMES[label]))
    return turns


def _turn(found: re.Match[str], **given: Any) -> Turn:
    start, end = (_seconds(found[name]) for name in ("start", "end"))
    # `Ses01F_impro01`: the F says who wore the markers; who speaks stands before the number of the turn.
    return Turn(id=found["id"], dialogue=found["dialogue"], speaker=found["dialogue"][:5] + found["who"], start=start, end=end, **given)


def _seconds(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _labelled(turns: list[Turn], labels: list[Turn], path: Path) -> list[Turn]:
    """Return the utterances with their labels.

    Raises:
        CorpusError: most labels belong to utterances that the transcription lacks.
    """
    known = {turn.id: turn.label for turn in labels}
    there = {turn.id for turn in turns}
    lost = [name for name in known if name not in there]
    if 2 * len(lost) > len(known):
        raise CorpusError(
            f"{path}: {len(lost)} of {len(known)} labels belong to utterances that the transcription lacks, such as {lost[0]!r}"
        )
    if lost:
        note(f"{path.name}: {len(lost)} labels belong to utterances that the transcription lacks (first: {lost[0]})")
    return [Turn(**{**vars(turn), "label": known.get(turn.id)}) for turn in turns]


def _annotations(turns: list[Turn], form: str, dataset: str | None) -> Annotations:
    names = list(dict.fromkeys(turn.dialogue for turn in turns))
    lengths = Counter(turn.dialogue for turn in turns)
    place = {name: i for i, name in enumerate(names)}
    turns = sorted(turns, key=lambda turn: place[turn.dialogue])
    return Annotations(
        format=form,
        dataset=dataset or "iemocap",
        dialogue_ids=names,
        lengths=[lengths[name] for name in names],
        utterance_ids=[turn.id for turn in turns],
        speakers=[turn.speaker for turn in turns],
        texts=[turn.text for turn in turns] if any(turn.text for turn in turns) else [],
        columns={
            **({"label": [turn.label for turn in turns]} if any(turn.label for turn in turns) else {}),
            "start": [turn.start for turn in turns],
            "end": [turn.end for turn in turns],
        },
    )
