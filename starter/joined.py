"""The corpus of the starter model: comments of GoEmotions and dialogues of EmoryNLP, with the labels of `ekman7`.

The label set of EmoryNLP contains neither surprise nor disgust. An utterance of EmoryNLP may still express these emotions. Every utterance
therefore has a mask of the classes that its annotators could choose (`Joined.offered`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from erc_graph.data.corpus import Corpus
from erc_graph.data.files.load import load_corpus
from starter.shared_dialogues import scene

GOEMOTIONS, EMORYNLP = "goemotions", "emorynlp"
TASK = "ekman7"


@dataclass(frozen=True, eq=False)
class Joined:
    """Several corpora as one corpus.

    Attributes:
        corpus: `U` utterances; ids of dialogues and utterances begin with the name of their corpus and a colon.
        offered: `(U, C)` mask of the classes that were offered to the annotators.
        origin: Name of the corpus of every dialogue.
    """

    corpus: Corpus
    offered: Tensor
    origin: tuple[str, ...]

    def dialogues(self, origin: str, split: str) -> list[int]:
        """Return the positions of a corpus' dialogues in a split."""
        names = self.corpus.splits[split]
        return [place for name in names if self.origin[place := self.corpus.position[name]] == origin]


def classes(corpus: Corpus) -> Tensor:
    """Return the mask `(C,)` of the classes that occur among the labels of a corpus."""
    found = torch.zeros(len(corpus.task.labels), dtype=torch.bool)
    found[corpus.target[corpus.labelled]] = True
    return found


def join(corpora: Mapping[str, Corpus]) -> Joined:
    """Join corpora of the same task (name → corpus) to one corpus without features."""
    parts = list(corpora.values())
    ids = {name: [f"{name}:{one}" for one in corpus.dialogue_ids] for name, corpus in corpora.items()}
    splits = {
        split: tuple(f"{name}:{one}" for name, corpus in corpora.items() for one in corpus.splits.get(split, ()))
        for split in ("train", "dev", "test")
    }
    lengths = torch.cat([corpus.lengths for corpus in parts])
    corpus = Corpus(
        name="+".join(corpora),
        task=parts[0].task,
        dialogue_ids=tuple(one for names in ids.values() for one in names),
        ptr=torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)]),
        utterance_ids=tuple(f"{name}:{one}" for name, corpus in corpora.items() for one in corpus.utterance_ids),
        speakers=tuple(one for corpus in parts for one in corpus.speakers),
        texts=tuple(one for corpus in parts for one in corpus.texts),
        target=torch.cat([corpus.target for corpus in parts]),
        splits={split: names for split, names in splits.items() if names},
    )
    offered = torch.cat([classes(corpus).expand(corpus.utterances, -1) for corpus in parts])
    return Joined(corpus, offered, tuple(name for name, names in ids.items() for _ in names))


def labelled(corpus: Corpus) -> Corpus:
    """Return the dialogues that have at least one labelled utterance."""
    some = set(corpus.dialogue_of[corpus.labelled].tolist())
    return corpus.subset([name for place, name in enumerate(corpus.dialogue_ids) if place in some])


def without(corpus: Corpus, scenes: Collection[str]) -> Corpus:
    """Return EmoryNLP without some scenes of its training and development splits."""
    gone = {name for split in ("train", "dev") for name in corpus.splits.get(split, ()) if scene(name) in scenes}
    return corpus.subset([name for name in corpus.dialogue_ids if name not in gone])


def of_task(path: str) -> Corpus:
    """Return a corpus with the labels of the starter model, without features."""
    corpus = load_corpus(path, task=TASK)
    return replace(corpus, features={}, present={}, sequences={})


def training_corpus(goemotions: str, emorynlp: str, scenes: Collection[str]) -> Joined:
    """Return the training and development splits of both corpora, for training and selection of the starter model.

    Args:
        goemotions: Folder of GoEmotions.
        emorynlp: Folder of EmoryNLP.
        scenes: Scenes of EmoryNLP that are left out.
    """
    given = {GOEMOTIONS: of_task(goemotions), EMORYNLP: without(of_task(emorynlp), scenes)}
    kept = {name: corpus.subset([*corpus.splits["train"], *corpus.splits["dev"]]) for name, corpus in given.items()}
    return join({name: labelled(corpus) for name, corpus in kept.items()})


def thinned(joined: Joined, every: int) -> Joined:
    """Return the corpus with every `every`-th training comment of GoEmotions, which suffices for a graph with seven inputs."""
    gone = {place for number, place in enumerate(joined.dialogues(GOEMOTIONS, "train")) if number % every}
    kept = [place for place in range(len(joined.corpus)) if place not in gone]
    corpus = joined.corpus.subset([joined.corpus.dialogue_ids[place] for place in kept])
    return Joined(corpus, joined.offered[joined.corpus.rows(kept)], tuple(joined.origin[place] for place in kept))
