"""The preprocessing of features for all methods. Its options are in the table `[inputs]` of the settings of an experiment.

This preprocessing consists of scaling, noise, modality dropout, pooling of sequences, and trained layers of a text encoder. This
preprocessing is the same for all methods and baselines.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.data.ragged import Ragged
from erc_graph.data.tasks import Task
from erc_graph.encoders.pooled import pooled_width, statistics
from erc_graph.encoders.text_layers import TextLayers, TextLayersConfig, made_by
from erc_graph.encoders.turns import OverTurns
from erc_graph.errors import ConfigError
from erc_graph.methods.ranges import Checked, Fractions, Share
from erc_graph.methods.schema import Schema

LEAST_DEVIATION = 0.1  # of a speaker within a dialogue, in units of the training split's deviation
SPEAKER = "speaker"  # the feature set of given speaker vectors


@dataclass(frozen=True, kw_only=True)
class InputsConfig(Checked):
    """Options of the preprocessing of features before a method reads them.

    Attributes:
        speaker_relative: Modalities whose features the method reads in two forms: scaled, and normalised with the speaker's mean and
            standard deviation in the dialogue.
        swap_noise: Modality → share of training utterances whose features are replaced by those of a random utterance. This noise is meant
            for features that were fitted to the training labels.
        modality_dropout: Probability that a modality of an utterance is left out in training; at least one modality always remains.
        second_text: Feature set of a second text encoder, for methods that use it, such as `pairwise`. This feature set is not a modality.
        given_speakers: Use speaker vectors from the feature set `speaker` instead of learned embeddings.
        text_layers: The last layers of a text encoder, which are trained with the method. The text features of the corpus must be sequences
            with one vector per token.
    """

    where = "inputs"

    speaker_relative: list[str] = field(default_factory=list)
    swap_noise: Fractions = field(default_factory=dict)
    modality_dropout: Share = 0.0
    second_text: str | None = None
    given_speakers: bool = False
    text_layers: TextLayersConfig = field(default_factory=TextLayersConfig)


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """The shapes of the input for which a method is built.

    Attributes:
        widths: Modality → width of its vectors, after scaling.
        items: Modality that is read as a sequence → shape of the features of one word, frame or sample.
        second_text: Width of the second text feature; 0: no second text feature.
        speaker: Width of the speaker vectors of the corpus; 0: no speaker vectors.
        task: The task: emotion labels, or a numeric score.
        outputs: Number of scores per utterance.
    """

    widths: Mapping[str, int]
    items: Mapping[str, tuple[int, ...]]
    second_text: int
    speaker: int
    task: Task
    outputs: int

    @property
    def modalities(self) -> tuple[str, ...]:
        """Return the sorted names of all modalities, whether their features are vectors or sequences."""
        return tuple(sorted((*self.widths, *self.items)))


@dataclass(frozen=True, kw_only=True, eq=False)
class Given:
    """The input of a method for one batch of `N` utterances.

    Attributes:
        batch: The dialogues.
        values: Modality → `(N, width)` scaled vectors; zero where the modality is missing.
        sequences: Modality → its sequences of words or frames.
        present: Modality → `(N,)` bool mask of the utterances that have this modality, as a vector or a sequence.
        second_text: Second text features `(N, width)` and a bool mask `(N,)` of the utterances that have them; or `None`.
        speaker: Speaker vectors of the corpus `(N, width)` and a bool mask `(N,)` of the utterances that have them; or `None`.
    """

    batch: Batch
    values: Mapping[str, Tensor]
    sequences: Mapping[str, Ragged]
    present: Mapping[str, Tensor]
    second_text: tuple[Tensor, Tensor] | None = None
    speaker: tuple[Tensor, Tensor] | None = None

    def here(self, modalities: Collection[str]) -> Tensor:
        """Return a bool mask `(N, modalities)`, which says for every utterance and modality whether the utterance has the modality."""
        return torch.stack([self.present[name] for name in modalities], 1)


class Inputs(nn.Module):
    """The preprocessing that all methods share: it converts a batch of dialogues to the input of a method.

    `fit` computes mean and standard deviation of the features once, on the training split. Both are stored with the model's weights.

    Args:
        schema: The features of the corpus.
        config: The options of the preprocessing.
        prior: Feature sets of log-probabilities that are added to the scores. These feature sets are not modalities.
        sequences: Modalities that the method reads as sequences. Any other sequence becomes a vector of its mean and standard deviation.
        second_text: Whether the method reads a second text feature.

    Raises:
        ConfigError: a feature set is missing, no modality is left, or the method cannot use an option.
    """

    def __init__(
        self,
        schema: Schema,
        config: InputsConfig,
        *,
        prior: Collection[str] = (),
        sequences: Collection[str] = (),
        second_text: bool = False,
    ) -> None:
        super().__init__()
        self.config, self.schema = config, schema
        self.text_layers = text_layers(schema, config.text_layers) if config.text_layers.layers else None
        items = dict(schema.sequences)
        widths = dict(schema.widths)
        if self.text_layers is not None:
            widths["text"] = items.pop("text")[0]
        widths |= {name: pooled_width(item) for name, item in items.items() if name not in sequences}
        items = {name: item for name, item in items.items() if name in sequences}
        self.pooled = tuple(name for name in schema.sequences if name in widths and not (name == "text" and self.text_layers is not None))
        if config.second_text is not None:
            if not second_text:
                raise ConfigError(
                    f"inputs.second_text: expected no feature set, because this method reads no second text, found {config.second_text!r}"
                )
            if config.second_text not in widths:
                raise ConfigError(
                    f"inputs.second_text: expected a feature set `{config.second_text}`; the corpus has {', '.join(widths) or 'none'}"
                )
        if config.given_speakers and SPEAKER not in widths:
            raise ConfigError(f"inputs.given_speakers: expected a feature set `{SPEAKER}`; the corpus has {', '.join(widths) or 'none'}")
        apart = {config.second_text, SPEAKER}
        self.scaled = tuple(
            name for name in widths
            if name == config.second_text or (config.given_speakers if name == SPEAKER else name not in prior)
        )  # fmt: skip
        schema.known(list(config.speaker_relative), "inputs.speaker_relative")
        for name in config.speaker_relative:
            if name not in self.scaled:
                raise ConfigError(
                    f"inputs.speaker_relative: expected modalities that are vectors ({', '.join(self.scaled)}), found {name!r}"
                )
        self.speaker_relative = SpeakerRelative() if config.speaker_relative else None
        for name in self.scaled:
            self.register_buffer(f"mean_{name}", torch.zeros(widths[name]))
            self.register_buffer(f"deviation_{name}", torch.ones(widths[name]))
        wide = {name: widths[name] * (1 + (name in config.speaker_relative)) for name in self.scaled}
        self.shapes = Shapes(
            widths={name: width for name, width in wide.items() if name not in apart},
            items=items,
            second_text=wide.get(config.second_text or "", 0),
            speaker=wide[SPEAKER] if config.given_speakers else 0,
            task=schema.task,
            outputs=schema.outputs,
        )
        if not self.shapes.modalities:
            raise ConfigError(f"modalities: expected one or more, such as text, audio or visual; found {', '.join(widths) or 'none'}")

    def fit(self, train: Batch) -> None:
        """Compute the mean and standard deviation of the training features, and load pretrained weights into the text layers."""
        if self.text_layers is not None:
            self.text_layers.start_from(made_by(self.schema.provenance, "text"))
            self.text_layers.eval()
        with torch.no_grad():
            batch = self.vectors(train)
            for name in self.scaled:
                rows = batch.features[name][batch.present[name]].double()
                if len(rows) > 1:
                    deviation = rows.std(0, correction=0)
                    self.get_buffer(f"mean_{name}").copy_(rows.mean(0))
                    self.get_buffer(f"deviation_{name}").copy_(torch.where(deviation > 1e-6, deviation, 1.0))

    def prepared(self, batch: Batch) -> Batch:
        """Replace sequences that the method reads as vectors by their mean and standard deviation, once and not in every epoch."""
        waiting = [name for name in self.pooled if name in batch.sequences]
        if not waiting:
            return batch
        return replace(
            batch,
            features={**batch.features, **{name: statistics(batch.sequences[name]) for name in waiting}},
            present={**batch.present, **{name: batch.sequences[name].present for name in waiting}},
            sequences={name: value for name, value in batch.sequences.items() if name not in waiting},
        )

    def vectors(self, batch: Batch) -> Batch:
        """Return the batch, in which a vector replaces every sequence that the method does not read as a sequence."""
        batch = self.prepared(batch)
        if self.text_layers is None or "text" not in batch.sequences:
            return batch
        words = batch.sequences["text"]
        return replace(
            batch,
            features={**batch.features, "text": self.text_layers(words)},
            present={**batch.present, "text": words.present},
        )

    def noisy(self, batch: Batch) -> Batch:
        """Apply the options `swap_noise` and `modality_dropout` to the batch, in training only."""
        config = self.config
        if not self.training:
            return batch
        if config.swap_noise:
            batch = swapped(batch, {name: share for name, share in config.swap_noise.items() if name in batch.features})
        if config.modality_dropout:
            lengths = {name: batch.sequences[name].present for name in self.shapes.items}
            kept = hidden({**{name: batch.present[name] for name in self.shapes.widths}, **lengths}, config.modality_dropout)
            batch = replace(
                batch,
                present={**batch.present, **{name: kept[name] for name in self.shapes.widths}},
                sequences={**batch.sequences, **{name: silent(batch.sequences[name], kept[name]) for name in lengths}},
            )
        return batch

    def forward(self, batch: Batch) -> Given:
        """Return the input of the method for a batch that the functions `vectors` and `noisy` have prepared."""
        values = {}
        for name in self.scaled:
            here = batch.present[name][:, None]
            scaled = (batch.features[name] - self.get_buffer(f"mean_{name}")) / self.get_buffer(f"deviation_{name}")
            if self.speaker_relative is not None and name in self.config.speaker_relative:
                scaled = torch.cat([scaled, self.speaker_relative(Nodes.of_turns(scaled, batch.present[name]), batch).states[:, 0]], -1)
            values[name] = torch.where(here, scaled, 0.0)
        shapes, second = self.shapes, self.config.second_text
        return Given(
            batch=batch,
            values={name: values[name] for name in shapes.widths},
            sequences={name: batch.sequences[name] for name in shapes.items},
            present={
                **{name: batch.present[name] for name in shapes.widths},
                **{name: batch.sequences[name].present for name in shapes.items},
            },
            second_text=None if second is None else (values[second], batch.present[second]),
            speaker=(values[SPEAKER], batch.present[SPEAKER]) if shapes.speaker else None,
        )


class SpeakerRelative(OverTurns):
    """Features minus the speaker's mean in the dialogue, divided by the speaker's standard deviation in the dialogue.

    Loudness and pitch say more about the emotion when they are compared with other utterances of the same speaker. This speaker
    normalisation is common in speech emotion recognition. Source: Busso et al., "Iterative feature normalization scheme for automatic
    emotion detection from speech", IEEE Transactions on Affective Computing, 2013. The normalisation needs whole dialogues, because it also
    uses later utterances.
    """

    def forward(self, nodes: Nodes, batch: Batch) -> Nodes:
        """Map the `d` scaled features of `N` utterances, `(N, 1, d)`, to features that are normalised per speaker, `(N, 1, d)`."""
        return nodes.with_states(relative_to_speaker(nodes.states[:, 0], nodes.present[:, 0], batch)[:, None])


def relative_to_speaker(values: Tensor, present: Tensor, batch: Batch) -> Tensor:
    """Subtract the speaker's mean in the dialogue, and divide by the speaker's standard deviation in the dialogue.

    Args:
        values: `d` scaled features of `N` utterances, `(N, d)`.
        present: `(N,)` bool mask of the utterances that have features; other utterances are ignored.
        batch: The dialogues.

    Returns:
        The normalised features, `(N, d)`, or zero if a speaker has only one utterance. Every standard deviation is increased by 0.1.
    """
    own = batch.dialogue * batch.longest + batch.speaker  # a dialogue has no more speakers than turns
    here = present[:, None]
    values = torch.where(here, values, 0.0)
    groups = values.new_zeros(len(batch) * batch.longest, values.shape[1] + 1)
    sums = groups.index_add(0, own, torch.cat([values, here.to(values.dtype)], -1))
    turns = sums[:, -1:].clamp(min=1)
    distance = torch.where(here, values - (sums[:, :-1] / turns)[own], 0.0)
    variance = torch.zeros_like(sums[:, :-1]).index_add(0, own, distance.square()) / turns
    deviation = (variance + 1e-12).sqrt()  # a finite slope at zero
    return distance / (deviation[own] + LEAST_DEVIATION)


def swapped(batch: Batch, shares: Mapping[str, float]) -> Batch:
    """Replace a random share of each modality's vectors by the vectors of random utterances. This noise is for training only.

    Features that were fitted to the training labels are more accurate in training than on new data. Replaced vectors reduce this effect.

    Args:
        batch: Dialogues.
        shares: Modality → share of utterances whose vector is replaced. The random utterance that replaces it may lack the modality.
    """
    features, present = dict(batch.features), dict(batch.present)
    for name, share in shares.items():
        rows = torch.arange(batch.utterances, device=batch.device)
        traded = torch.rand(len(rows), device=batch.device) < share
        rows = torch.where(traded, torch.randint(len(rows), (len(rows),), device=batch.device), rows)
        features[name], present[name] = features[name][rows], present[name][rows]
    return replace(batch, features=features, present=present)


def hidden(present: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """Remove random modalities from every utterance, but never all of its modalities. This noise is for training only.

    Args:
        present: Modality → `(N,)` bool mask of the utterances that have this modality.
        share: Probability that an available modality is removed.
    """
    here = torch.stack(list(present.values()), 1)
    kept = here & (torch.rand(here.shape, device=here.device) >= share)
    kept = torch.where(kept.any(1, keepdim=True), kept, here)
    return dict(zip(present, kept.unbind(1), strict=True))


def silent(sequences: Ragged, kept: Tensor) -> Ragged:
    """Return `N` sequences. A sequence is made empty if its value in the bool mask `kept`, `(N,)`, is false.

    >>> silent(Ragged.of([torch.ones(2), torch.ones(3)]), torch.tensor([False, True])).lengths.tolist()
    [0, 3]
    """
    kept = kept.cpu()
    lengths = torch.where(kept, sequences.lengths, 0)
    items = torch.repeat_interleave(kept, sequences.lengths)
    return Ragged(sequences.values[items.to(sequences.device)], torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]))


def text_layers(schema: Schema, config: TextLayersConfig) -> TextLayers:
    """Return the layers of the text encoder that are trained with the method.

    Raises:
        ConfigError: the text features of the corpus are not sequences with one vector per token.
    """
    item = schema.sequences.get("text", ())
    if len(item) != 1:
        found = "text that is no sequence" if not item else f"items of shape {item}"
        raise ConfigError(
            "inputs.text_layers.layers: expected text as sequences of hidden states, one per token, as `erc-graph features --pooling "
            f"words` makes them, found {found}"
        )
    return TextLayers(item[0], config)
