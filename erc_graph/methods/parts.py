"""Modules that several methods share: input layers, intermediate layers, and output layers."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.data.ragged import Ragged
from erc_graph.encoders.batch_norm import BatchNorm
from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.frontend import FrontEnd, FrontEnds
from erc_graph.encoders.sequences import encode_sequences, encode_together, masked_mean
from erc_graph.encoders.subnets import LastWord, SubNet
from erc_graph.encoders.turns import OverTurns, over_turns
from erc_graph.errors import ConfigError
from erc_graph.methods.inputs import Given, Shapes

TOKENS = 8192  # most items of sequences that are encoded at once, padding included
Padded = tuple[Tensor, Tensor]  # (n, L, width), and (n, L) bool: what is real


MEANS = 1 << 16  # most items that are averaged at once


class Turn(nn.Module):
    """One node per utterance, whose state is the concatenation of all modalities; missing modalities are zeros.

    Args:
        widths: Modality → width of its features.
        width: Width of a linear map after concatenation; default: no map.

    Attributes:
        width: Width of the states.
        count: Number of nodes per utterance: one.
    """

    def __init__(self, widths: Mapping[str, int], width: int | None = None) -> None:
        super().__init__()
        self.names, self.count = tuple(widths), 1
        self.width = width or sum(widths.values())
        self.project = nn.Linear(sum(widths.values()), width) if width else nn.Identity()

    def forward(self, given: Given) -> Nodes:
        """Return the states of `N` utterances, `(N, 1, width)`; a state is missing if the utterance has no modality."""
        states = torch.cat([given.values[name] for name in self.names], -1)
        return Nodes.of_turns(self.project(states), given.here(self.names).any(1))


class Streams(nn.Module):
    """One node per utterance and modality; each modality has its own linear map to a common width.

    Args:
        widths: Modality → width of its features.
        width: Width of the states.
        read: Modality → module over its utterances, applied after the linear map; modalities that are not in `widths` are ignored.

    Attributes:
        count: Number of nodes per utterance.
    """

    def __init__(self, widths: Mapping[str, int], width: int, read: Mapping[str, OverTurns] | None = None) -> None:
        super().__init__()
        self.names, self.width, self.count = tuple(widths), width, len(widths)
        self.read = nn.ModuleDict({name: part for name, part in (read or {}).items() if name in widths})
        self.project = nn.ModuleDict({name: nn.Linear(inputs, width) for name, inputs in widths.items()})

    def forward(self, given: Given) -> Nodes:
        """Return the node states of `N` utterances in `S` modalities, `(N, S, width)`."""
        rows = {name: self.project[name](given.values[name]) for name in self.names}
        rows |= {name: over_turns(part, rows[name], given.batch) for name, part in self.read.items()}
        states = torch.stack([rows[name] for name in self.names], 1)
        return Nodes(states, given.here(self.names), self.names)


def added(nodes: Nodes, rows: Tensor, streams: Collection[str]) -> Nodes:
    """Add a vector per utterance `(N, width)`, such as a speaker embedding, to the node states `(N, S, width)` of some modalities."""
    chosen = torch.tensor([name in streams for name in nodes.streams], dtype=rows.dtype, device=rows.device)
    return nodes.with_states(nodes.states + rows[:, None] * chosen[:, None])


class MeanOfTexts(nn.Module):
    """Mean of several text features (`text1` to `text4`: the last layers of an encoder), each after its own batch norm.

    M3NET, MF-EDM, GraphSmile and COSMIC read four layers of RoBERTa in this way. A single text feature is not changed.

    Args:
        widths: Modality → width of its features.
        norm: Whether to use batch norms; default: only if there are several text features.

    Attributes:
        widths: Modality → width, with a single `text` instead of several text features.
        couples_batch: Reason why the dialogues of a training batch depend on each other; empty without batch norms.

    Raises:
        ConfigError: the text features have different widths.
    """

    def __init__(self, widths: Mapping[str, int], norm: bool | None = None) -> None:
        super().__init__()
        texts = {name: width for name, width in widths.items() if re.fullmatch(r"text\d*", name)}
        if len(set(texts.values())) > 1:
            raise ConfigError(f"modalities: expected text features of the same width, found {texts}; leave out sets of other widths")
        self.widths = dict(sorted(("text" if name in texts else name, width) for name, width in widths.items()))
        self.names, normed = tuple(texts), len(texts) > 1 if norm is None else norm
        self.norm = nn.ModuleDict({name: BatchNorm(width) for name, width in texts.items()} if normed else {})
        self.couples_batch = "the batch norm of texts" if self.norm else ""

    def forward(self, given: Given) -> Given:
        """Return the input with the mean over the present text features in place of all text features."""
        if self.names in ((), ("text",)) and not self.norm:
            return given
        rows = {name: Nodes.of_turns(given.values[name], given.present[name]) for name in self.names}
        rows |= {name: norm(rows[name], given.batch) for name, norm in self.norm.items()}
        here = given.here(self.names)  # (N, texts)
        text = torch.cat([row.masked() for row in rows.values()], 1).sum(1) / here.sum(1, keepdim=True).clamp(min=1)
        return replace(given, values={**given.values, "text": text}, present={**given.present, "text": here.any(1)})


class Rowwise(nn.Module):
    """Layers that process one node at a time.

    Args:
        *layers: Layers that are applied one after another to node states `(N, S, width)`, with `S` nodes per utterance.

    Attributes:
        width: Width of the output states; it exists only if one of the layers is linear.
    """

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)
        if linear := [layer.out_features for layer in layers if isinstance(layer, nn.Linear)]:
            self.width = linear[-1]

    def forward(self, nodes: Nodes, batch: Batch) -> Nodes:
        """Apply the layers to node states, `(N, S, width)`; the new states can have another width."""
        return nodes.with_states(self.layers(nodes.states))


class Stack(nn.ModuleList):
    """Modules that are applied one after another."""

    def forward(self, nodes: Nodes, batch: Batch) -> Nodes:
        """Apply the modules to node states, `(N, S, width)`; the new states can have another width."""
        for part in self:
            nodes = part(nodes, batch)
        return nodes


class Classifier(nn.Module):
    """Fully connected layers with ReLU and dropout that compute the scores."""

    def __init__(self, inputs: int, outputs: int, *, hidden: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(Dropout(dropout), nn.Linear(inputs, hidden), nn.ReLU(), Dropout(dropout), nn.Linear(hidden, outputs))

    def forward(self, states: Tensor) -> Tensor:
        """Map the states of `N` utterances, `(N, inputs)`, to scores, `(N, outputs)`."""
        return self.layers(states)


class Bounded(nn.Module):
    """A score bounded between `-shift` and `span - shift`.

    Args:
        span: Largest minus smallest score.
        shift: Negative of the smallest score.
    """

    def __init__(self, span: float, shift: float) -> None:
        super().__init__()
        self.span, self.shift = span, shift

    def forward(self, scores: Tensor) -> Tensor:
        """Map scores of any shape to the bounded range."""
        return self.span * scores.sigmoid() - self.shift


class Highway(nn.Module):
    r"""A highway layer: :math:`\sigma(G x) \odot \mathrm{ReLU}(N x) + (1 - \sigma(G x)) \odot L x`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate, self.nonlinear, self.linear = (nn.Linear(width, width) for _ in range(3))

    def forward(self, states: Tensor) -> Tensor:
        """Map the states of `N` utterances, `(N, width)`, to new states of the same shape."""
        gate = self.gate(states).sigmoid()
        return gate * self.nonlinear(states).relu() + (1 - gate) * self.linear(states)


class Items(nn.Module):
    """Input layers that return every modality as a sequence of words or frames; a vector becomes a sequence of length one.

    Args:
        shapes: Shapes of the input.
        widths: Modality → width of its words or frames after a linear map.
    """

    def __init__(self, shapes: Shapes, widths: Mapping[str, int]) -> None:
        super().__init__()
        self.fronts = FrontEnds({}, 0)
        self.fronts.update({m: FrontEnd(item, widths[m]) for m, item in shapes.items.items()})
        self.vectors = nn.ModuleDict({m: nn.Linear(inputs, widths[m]) for m, inputs in shapes.widths.items()})

    def read(self, name: str, values: Tensor, mask: Tensor) -> Padded:
        """Map `n` padded sequences of length `L` and their mask `(n, L)` to frames `(n, frames, width)` and their mask.

        The output has at least one frame per sequence, which may be padding.
        """
        states, mask = self.fronts[name](values, mask) if name in self.fronts else (self.vectors[name](values), mask)
        if states.shape[1]:
            return states, mask
        return states.new_zeros(len(states), 1, states.shape[2]), mask.new_zeros(len(states), 1)

    def forward(self, encode: Callable[[dict[str, Padded]], Tensor], given: Given, width: int) -> Tensor:
        """Compute the vectors of `N` utterances, `(N, width)`; the vector of an utterance without words or frames is zero.

        Args:
            encode: Function that maps a dictionary (modality → padded sequences and mask) of `n` utterances to `(n, width)`. Each of these
                utterances has at least one word or frame.
            given: The dialogues.
            width: Width of the vectors.
        """
        batch = self.fronts.prepared(given.batch)
        sequences = {m: batch.sequences[m] for m in self.fronts}
        sequences |= {m: Ragged.of_rows(given.values[m], given.present[m]) for m in self.vectors}
        return encode_together(lambda padded: encode({m: self.read(m, *padded[m]) for m in sorted(padded)}), sequences, width, TOKENS)


class SubNets(nn.ModuleDict):
    """A small network per modality of an utterance: `SubNet` for a vector, `LastWord` for words.

    Args:
        shapes: Shapes of the input.
        widths: Modality that has a network → width of its vectors.
        words: Width of the LSTM over words.
        dropout: Dropout in all networks.
    """

    def __init__(self, shapes: Shapes, widths: Mapping[str, int], words: int, dropout: float) -> None:
        nets: dict[str, nn.Module] = {m: SubNet(n, widths[m], dropout) for m, n in shapes.widths.items() if m in widths}
        super().__init__(nets | {m: LastWord(item[0], words, widths[m], dropout) for m, item in shapes.items.items() if m in widths})

    def forward(self, given: Given) -> dict[str, Tensor]:
        """Compute the vectors of `N` utterances: modality → `(N, width)`, with the width in `widths`; zero for a missing modality."""
        z = {
            m: net(given.sequences[m]) if m in given.sequences else net(Nodes.of_turns(given.values[m], given.present[m]), given.batch)
            for m, net in self.items()
        }
        return {m: torch.where(given.present[m][:, None], rows, 0.0) for m, rows in z.items()}


def with_means(given: Given) -> Given:
    """Return the input with a vector in place of every sequence of states: the mean of the sequence over time."""
    means = {name: encode_sequences(masked_mean, value, value.item[0], MEANS) for name, value in given.sequences.items()}
    return replace(given, values={**given.values, **means}, sequences={})


def widths_with_means(shapes: Shapes) -> dict[str, int]:
    """Return the vector widths: modality → width of its vector, or of its mean over time."""
    return dict(sorted({**shapes.widths, **{name: item[0] for name, item in shapes.items.items()}}.items()))
