"""The schema of a method: the features that it reads, and the task that it predicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import nn

from erc_graph.data.batch import Batch
from erc_graph.data.corpus import Corpus
from erc_graph.data.tasks import Task
from erc_graph.errors import ConfigError

Kind = Literal["features", "sequences"]


@dataclass(frozen=True, kw_only=True)
class Schema:
    """The features that a method reads, and the task that it predicts.

    Attributes:
        widths: Modality → number of features, in the order in which the model reads the modalities.
        task: The task: emotion labels or a score.
        sequences: Modality that is a sequence in the corpus → shape of one word, frame or sample, `()` for a waveform.
        provenance: Origin of the features as values that JSON can store: name and files of the corpus, modality → extractor.

    Raises:
        ConfigError: a modality has a name that cannot be the name of a PyTorch submodule.
    """

    widths: Mapping[str, int]
    task: Task
    sequences: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Modalities name submodules and parameters; PyTorch's containers keep some words, such as `type`, for themselves.
        for name in (*self.widths, *self.sequences):
            if "." in name or "+" in name or hasattr(nn.ParameterDict(), name):
                raise ConfigError(f"modalities: a feature set cannot be called {name!r}; give it another name in corpus.toml")

    @classmethod
    def of(cls, corpus: Corpus, modalities: tuple[str, ...] | None = None, reads: tuple[Kind, ...] = ("features", "sequences")) -> Schema:
        """Return the schema of a corpus, or of some of its modalities.

        Args:
            corpus: The conversations.
            modalities: Names of the modalities; default: all modalities that the corpus has in a form that `reads` names.
            reads: Forms that the method reads: `features` (one vector per utterance), `sequences` (words, frames or samples), or both. For
                each modality, the first available form is used.

        Raises:
            ConfigError: the corpus lacks one of the modalities in these forms, or has no modality in any of these forms.
        """
        forms: dict[Kind, Mapping[str, Any]] = {"features": corpus.features, "sequences": corpus.sequences}
        has = {name: kind for kind in reversed(reads) for name in forms[kind]}
        chosen = tuple(sorted(modalities or has))
        unknown = [name for name in chosen if name not in has]
        if unknown or not chosen:
            wanted = " or ".join(reads)
            known = ", ".join(has) or _instead(corpus, reads)
            raise ConfigError(f"modalities: {corpus.name} has no {wanted}{f' of {unknown[0]}' if unknown else ''}; it has {known}")
        made = {name: what for name, what in corpus.provenance.get("extractors", {}).items() if name in chosen}
        source = {"corpus": corpus.name, "files": dict(corpus.provenance.get("files", {})), "extractors": made}
        return cls(
            widths={name: corpus.features[name].shape[1] for name in chosen if has[name] == "features"},
            task=corpus.task,
            sequences={name: corpus.sequences[name].item for name in chosen if has[name] == "sequences"},
            provenance=source,
        )

    @property
    def modalities(self) -> tuple[str, ...]:
        """Return the names of all modalities, vectors and sequences, sorted."""
        return tuple(sorted((*self.widths, *self.sequences)))

    def batch(self, corpus: Corpus) -> Batch:
        """Return the features of a corpus that belong to the schema, as a batch of tensors."""
        return corpus.batch(self.widths, self.sequences)

    def known(self, modalities: Sequence[str], option: str) -> Sequence[str]:
        """Return `modalities`, after checking that the corpus has them.

        Raises:
            ConfigError: the corpus lacks one of the modalities; the message names `option`.
        """
        for name in modalities:
            if name not in self.modalities:
                raise ConfigError(f"{option}: expected modalities of the corpus ({', '.join(self.modalities)}), found {name!r}")
        return modalities

    @property
    def outputs(self) -> int:
        """Return the number of scores per utterance."""
        return len(self.task.labels) if self.task.kind == "classification" else 1


def _instead(corpus: Corpus, reads: tuple[Kind, ...]) -> str:
    """Describe the features of a corpus that lacks the features that a method reads, and what the user can do."""
    if corpus.sequences and "sequences" not in reads:
        return f"sequences ({', '.join(corpus.sequences)}), which a method reads with Schema.of(corpus, reads=METHOD.reads)"
    found = [f"{key} ({', '.join(names)})" for key, names in (("features", corpus.features), ("sequences", corpus.sequences)) if names]
    found += ["texts"] if any(corpus.texts) else []
    command = "erc-graph features" + (" --pooling words" if reads[0] == "sequences" else "")
    return f"{' and '.join(found) or 'none'}; make a file with `{command}`, and name it under [{reads[0]}] of corpus.toml"
