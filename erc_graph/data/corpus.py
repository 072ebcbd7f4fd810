"""A corpus of conversations. Each utterance is one row, and each dialogue is a slice of rows."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import torch
from torch import Tensor

from erc_graph.data.annotations import TIMES
from erc_graph.data.batch import Batch, ranges
from erc_graph.data.dataframe import make_frame
from erc_graph.data.files.saved_corpus import save_corpus
from erc_graph.data.ragged import Ragged, shape_text
from erc_graph.data.summary import summary_html
from erc_graph.data.tasks import Task, apply_task, get_task
from erc_graph.data.utterance import Utterance
from erc_graph.errors import CorpusError

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, kw_only=True, eq=False)
class Corpus:
    """Conversations with speakers, labels, text, features and splits.

    Attributes with one row per utterance have all `U` utterances in the same order. Dialogue `i` has the rows `ptr[i]:ptr[i + 1]`.

    Attributes:
        name: Name of the data set, for example `iemocap6` or `meld`.
        task: The prediction task: the label or the score of each utterance.
        dialogue_ids: `D` unique dialogue ids.
        ptr: `(D + 1,)` int64: the index of the first row of every dialogue, then `U`.
        utterance_ids: `U` unique utterance ids.
        speakers: `U` speaker names.
        texts: `U` transcripts; an empty tuple if the corpus has no text.
        target: `(U,)` int64 label index, -1 if unlabelled. For a score task: `(U,)` float32, NaN if unlabelled.
        features: Modality → feature vectors, `(U, d)` float32. If an utterance lacks the modality, its vector is zero.
        present: Modality → `(U,)` bool: whether the utterance has this modality.
        sequences: Modality → one sequence of words, frames or samples per utterance. If an utterance lacks the modality, its sequence
            is empty.
        splits: `train`, `dev`, `test` → dialogue ids; a split may be absent.
        annotations: Annotation → `U` values from the files: `label`, `sentiment`, `score`, and the times `start`, `end` and `time`. `None`
            means unlabelled or unknown. `with_task` computes the targets of another task from these annotations.
        provenance: Origin of the corpus as JSON values: format, files with their SHA-256, feature extractors, and notes for the user.
    """

    name: str
    task: Task
    dialogue_ids: tuple[str, ...]
    ptr: Tensor
    utterance_ids: tuple[str, ...]
    speakers: tuple[str, ...]
    texts: tuple[str, ...] = ()
    target: Tensor
    features: Mapping[str, Tensor] = field(default_factory=dict)
    present: Mapping[str, Tensor] = field(default_factory=dict)
    sequences: Mapping[str, Ragged] = field(default_factory=dict)
    splits: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    annotations: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.dialogue_ids)

    def __iter__(self) -> Iterator[Dialogue]:
        return (self[i] for i in range(len(self)))

    def __contains__(self, dialogue: object) -> bool:
        """Return whether the corpus contains a dialogue. The argument is a `Dialogue`, or the id of a dialogue."""
        return (dialogue.id if isinstance(dialogue, Dialogue) else dialogue) in self.position

    @overload
    def __getitem__(self, key: int | str) -> Dialogue: ...

    @overload
    def __getitem__(self, key: slice) -> Corpus: ...

    def __getitem__(self, key: int | str | slice) -> Dialogue | Corpus:
        """Return the dialogue at a position or with an id. For a slice of positions, return a corpus of the dialogues in the slice.

        Raises:
            CorpusError: no dialogue has this id.
            IndexError: the position is out of range.
        """
        if isinstance(key, slice):
            return self.subset(self.dialogue_ids[key])
        if isinstance(key, str):
            if key not in self.position:
                first = f", the first is {self.dialogue_ids[0]!r}" if len(self) else ""
                raise CorpusError(f"{self.name}: no dialogue {key!r}; the corpus has {len(self)} dialogues{first}")
            key = self.position[key]
        if not -len(self) <= key < len(self):
            raise IndexError(f"no dialogue at position {key}; the corpus has {len(self)} dialogues")
        return Dialogue(corpus=self.subset([self.dialogue_ids[key]]))

    def __repr__(self) -> str:
        widths = [f"{name} {value.shape[1]}" for name, value in self.features.items()]
        inner = [f"{name} sequences of {shape_text(value.item)}" for name, value in self.sequences.items()]
        shapes = ", ".join(widths + inner) or "no features"
        parts = " ".join(f"{name} {len(ids)}" for name, ids in self.splits.items()) or "no split"
        return f"Corpus({self.name}: {len(self)} dialogues, {self.utterances} utterances; {shapes}; {parts}; task {self.task.name})"

    def _repr_html_(self) -> str:
        """Return a summary of the corpus for a notebook, as HTML."""
        return summary_html(self)

    @property
    def utterances(self) -> int:
        """Return the number of utterances."""
        return len(self.utterance_ids)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Return the names of the modalities that have feature vectors, in the order of `features`."""
        return tuple(self.features)

    @cached_property
    def position(self) -> dict[str, int]:
        """Return a dictionary that maps each dialogue id to the position of the dialogue in the corpus."""
        return {name: i for i, name in enumerate(self.dialogue_ids)}

    @cached_property
    def lengths(self) -> Tensor:
        """Return the number of utterances of every dialogue, `(D,)`."""
        return self.ptr.diff()

    @cached_property
    def dialogue_of(self) -> Tensor:
        """Return the position of the dialogue of every utterance, `(U,)`."""
        return torch.repeat_interleave(torch.arange(len(self)), self.lengths)

    @cached_property
    def speaker(self) -> Tensor:
        """Return the speaker index of every utterance, `(U,)` int64.

        The speakers of each dialogue are numbered from 0, in the order of their first utterances.
        """
        # As objects: numpy's own strings drop a trailing NUL, and two speakers would become one.
        names = np.unique(np.asarray(self.speakers, dtype=object), return_inverse=True)[1]
        pair = self.dialogue_of.numpy() * (int(names.max(initial=0)) + 1) + names
        _, first, inverse = np.unique(pair, return_index=True, return_inverse=True)
        first_row = np.sort(first)  # first rows of every (dialogue, speaker), in order of appearance
        rank_in_corpus = np.searchsorted(first_row, first)[inverse]
        ranks_before = np.searchsorted(first_row, self.ptr.numpy()[:-1])
        return torch.from_numpy(rank_in_corpus - ranks_before[self.dialogue_of.numpy()])

    @property
    def labelled(self) -> Tensor:
        """Return whether each utterance has a target, `(U,)` bool."""
        return self.target >= 0 if self.task.kind == "classification" else ~self.target.isnan()

    def rows(self, positions: Iterable[int]) -> Tensor:
        """Return the row indices of the utterances of the dialogues at `positions`, in the order of `positions`."""
        index = torch.as_tensor(list(positions), dtype=torch.long)
        return ranges(self.ptr[index], self.lengths[index])

    def split(self, name: str) -> Corpus:
        """Return a corpus of the dialogues of one split.

        Raises:
            CorpusError: the corpus has no split of this name.
        """
        if name not in self.splits:
            known = ", ".join(self.splits) or "none"
            raise CorpusError(
                f"{self.name}: no split {name!r}; splits of the corpus: {known}; give a split file as `splits` in corpus.toml"
            )
        return self.subset(self.splits[name])

    def subset(self, dialogue_ids: Iterable[str]) -> Corpus:
        """Return a corpus of the given dialogues, in the given order. The splits of the new corpus have only these dialogues.

        Raises:
            CorpusError: an id is unknown, or is given twice.
        """
        ids = tuple(dialogue_ids)
        unknown = [name for name in ids if name not in self.position]
        if unknown:
            raise CorpusError(f"{self.name}: unknown dialogue {unknown[0]!r} ({len(unknown)} of the {len(ids)} given ids are unknown)")
        chosen = set(ids)
        if len(chosen) < len(ids):
            twice = Counter(ids).most_common(1)[0][0]
            raise CorpusError(f"{self.name}: dialogue {twice!r} is given twice; expected each dialogue once")
        positions = [self.position[name] for name in ids]
        lengths = self.lengths[torch.as_tensor(positions, dtype=torch.long)]
        kept = {name: names for name, all_names in self.splits.items() if (names := tuple(n for n in all_names if n in chosen))}
        return self.regrouped(self.rows(positions), ids, lengths, kept)

    def regrouped(self, rows: Tensor, dialogue_ids: tuple[str, ...], lengths: Tensor, splits: Mapping[str, tuple[str, ...]]) -> Corpus:
        """Return a corpus of some utterances of this corpus, grouped into new dialogues.

        Args:
            rows: Row indices of the `n` utterances, `(n,)`; a row may occur several times.
            dialogue_ids: Ids of the new dialogues.
            lengths: Number of utterances of each new dialogue, in order; the sum is `n`.
            splits: Splits of the new dialogues.
        """
        index = rows.tolist()

        def pick(values: tuple[Any, ...]) -> tuple[Any, ...]:
            return tuple(values[i] for i in index) if values else ()

        return replace(
            self,
            dialogue_ids=dialogue_ids,
            ptr=torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)]),
            utterance_ids=pick(self.utterance_ids),
            speakers=pick(self.speakers),
            texts=pick(self.texts),
            target=self.target[rows],
            features={name: value[rows] for name, value in self.features.items()},
            present={name: value[rows] for name, value in self.present.items()},
            sequences={name: value.take(rows) for name, value in self.sequences.items()},
            splits=splits,
            annotations={name: pick(values) for name, values in self.annotations.items()},
        )

    def with_task(self, task: str | Task) -> Corpus:
        """Return the same conversations with the targets of another task, for example `iemocap4` instead of `iemocap6`.

        Raises:
            ConfigError: no task has this name.
            CorpusError: the files lack the annotation that the task needs, or have a label that is not in the label set of the task.
        """
        chosen = get_task(task) if isinstance(task, str) else task
        return replace(self, task=chosen, target=apply_task(chosen, self.annotations, self.utterances))

    def batch(self, modalities: Iterable[str] | None = None, sequences: Iterable[str] = ()) -> Batch:
        """Return all dialogues as one batch of tensors; `Batch.select` returns mini-batches of this batch.

        Args:
            modalities: Modalities whose feature vectors are included; default: all modalities.
            sequences: Modalities whose sequences are included; default: no sequences.

        Raises:
            CorpusError: the corpus lacks the features or sequences of a requested modality.
        """
        names, inner = self.modalities if modalities is None else tuple(modalities), tuple(sequences)
        for kind, wanted, found in (("modality", names, self.features), ("sequences", inner, self.sequences)):
            for name in wanted:
                if name not in found:
                    raise CorpusError(f"{self.name}: no {kind} {name!r}; found in the corpus: {', '.join(found) or 'none'}")
        return Batch(
            ptr=self.ptr,
            speaker=self.speaker,
            target=self.target,
            judged=self.labelled,
            row=torch.arange(self.utterances),
            features={name: self.features[name] for name in names},
            present={name: self.present[name] for name in names},
            sequences={name: self.sequences[name] for name in inner},
        )

    def columns(self) -> dict[str, Sequence[Any]]:
        """Return a dictionary that maps fields of `Utterance` to lists of `U` values. Times that the corpus lacks are left out."""
        task, target = self.task, self.target.tolist()
        score = task.kind == "score"
        values = [None if x != x else x for x in target] if score else [task.labels[x] if x >= 0 else None for x in target]
        return {
            "dialogue": [self.dialogue_ids[place] for place in self.dialogue_of.tolist()],
            "turn": (torch.arange(self.utterances) - self.ptr[self.dialogue_of]).tolist(),
            "id": self.utterance_ids,
            **{name: self.annotations[name] for name in TIMES if self.annotations.get(name)},
            "speaker": self.speakers,
            "text": self.texts or ("",) * self.utterances,
            "score" if score else "label": values,
        }

    def to_frame(self) -> pandas.DataFrame:
        """Return a pandas table with one row per utterance.

        The columns are `dialogue`, `turn`, `utterance` (id), `speaker`, `text` and `label`; for a score task, `score` replaces `label`. The
        columns `start`, `end`, `time` and `split` exist only if the corpus has such values. Unknown labels are missing values of the table.

        Raises:
            ConfigError: pandas is not installed.
        """
        columns = {"utterance" if name == "id" else name: values for name, values in self.columns().items()}
        if self.splits:
            split = {name: part for part, names in self.splits.items() for name in names}
            columns["split"] = [split.get(name) for name in columns["dialogue"]]
        return make_frame(columns)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the corpus to `folder` as safetensors and JSON files with SHA-256 hashes.

        A corpus that was saved in this folder earlier is replaced in one step. After a crash, the folder has the old or the new corpus.

        Raises:
            CorpusError: the splits contain unknown dialogues, or the name of a split is not `train`, `dev` or `test`.
            StorageError: the folder contains other files, or cannot be written. No incomplete file is left in the folder.
        """
        save_corpus(self, folder)


@dataclass(frozen=True, eq=False)
class Dialogue:
    """One conversation of a corpus: a sequence of utterances. The attribute `corpus` is a corpus with only this dialogue."""

    corpus: Corpus

    def __len__(self) -> int:
        return self.corpus.utterances

    def __iter__(self) -> Iterator[Utterance]:
        return iter(self._utterances)

    def __getitem__(self, turn: int) -> Utterance:
        """Return the utterance at a position in the dialogue, counted from 0."""
        return self._utterances[turn]

    def __repr__(self) -> str:
        return f"Dialogue({self.id}: {len(self)} utterances, {len(set(self.speakers))} speakers)"

    @property
    def id(self) -> str:
        """Return the id of the dialogue."""
        return self.corpus.dialogue_ids[0]

    @property
    def speakers(self) -> tuple[str, ...]:
        """Return the speaker name of every utterance."""
        return self.corpus.speakers

    @property
    def texts(self) -> tuple[str, ...]:
        """Return the transcript of every utterance; an empty tuple if the corpus has no text."""
        return self.corpus.texts

    @property
    def labels(self) -> tuple[str | None, ...]:
        """Return the label name of every utterance; `None` if the utterance is unlabelled. For a score task, return the scores as text."""
        task, target = self.corpus.task, self.corpus.target.tolist()
        if task.kind == "score":
            return tuple(None if value != value else f"{value:+.1f}" for value in target)
        return tuple(task.labels[value] if value >= 0 else None for value in target)

    @cached_property
    def _utterances(self) -> tuple[Utterance, ...]:
        columns = self.corpus.columns()
        return tuple(Utterance(**dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True))

    def batch(self, modalities: Iterable[str] | None = None, sequences: Iterable[str] = ()) -> Batch:
        """Return this dialogue as a batch of tensors; see `Corpus.batch`."""
        return self.corpus.batch(modalities, sequences)
