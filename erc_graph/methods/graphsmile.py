r"""GraphSmile: Joint Graph Structure and Sentiment Dynamics for Multimodal Emotion Recognition (Li, Wang and Zeng, IEEE TPAMI, 2025).

Every pair of modalities has a graph. Training has three tasks: the emotion, the sentiment, and whether two utterances differ in sentiment.
We had no access to the paper's text. The equations follow the public code; the equation numbers are ours. As in the code, the method does
not use speakers.

.. math::
    x_m &= \mathrm{LeakyReLU}(W_m f_m + b_m), \qquad f_{text} \text{ behind a batch norm} \tag{1} \\
    F^0 &= [x_m ; x_n], \qquad F^k = D^{-1/2} A D^{-1/2} F^{k-1} W_k + b_k \tag{2} \\
    S &= F^0 + \textstyle\sum_k \mathrm{LeakyReLU}(U_k F^k + c_k) \tag{3} \\
    z_i &= \mathrm{mean}_{\{m, n\} \ni m} \mathrm{LeakyReLU}(W_f S^{mn}_{i,m} + b_f) \tag{4} \\
    s_i &= W_e z_i + b_e \tag{5} \\
    L &= \mathrm{CE}(s) + \lambda_2 \mathrm{CE}(W_s z_i + b_s) + \lambda_3 \mathrm{CE}(W_d [z_i ; z_j] + b_d) \tag{6}

`A` is the adjacency matrix of the graph, and `D` is its degree matrix. A node has edges from the other modality only: from its own
utterance, and from a window of earlier and later utterances. CE is the cross entropy. The last term of (6) is a mean over ordered pairs of
utterances, including `i = j`, within blocks of `window` consecutive utterances.

| symbol | attribute | shape |
|---|---|---|
| batch norm, `W_m` | `texts.norm.text`, `project.project[m]` | `(features,)`, `(width, features)` |
| `W_k`, `U_k` | `graphs[pair].maps`, `.read` | `(width, width)` each |
| `W_f` | `fuse` | `(width, width)` |
| `W_e`, `W_s`, `W_d` | `classify`, `of_turn`, `of_pair` | `(classes, width)`, `(3, width)`, `(2, 2 width)` |

**Differences from the paper and from its public code**

- The public code reports the best accuracy and the best F1 on test data, even if they come from different epochs. Its development split is
  part of its training split. It repeats the dialogue order and the dropout masks in every epoch. Here the development split selects the
  epoch.
- All edges have weight one. In the public code, an edge has a learned weight, chosen by its position in the batch, so scores depend on the
  dialogue order. If the sum of these weights is negative, every score of the batch is NaN.
- The batch norm of (1) ignores padding; in the public code, it includes padding. Several text features (`text1` to `text4`) are averaged,
  each after its own batch norm.
- The layers of a graph have different initial weights; in the public code, all layers start as copies of one layer.
- A missing modality has no node, and (4) is the mean over the nodes that exist. With a single modality, there is no graph, and `S = F^0`.
- The sentiment in (6) follows from the label (option `sentiments`) or, if the task has numeric scores, from the sign of the score. The
  public code reads the sentiments of MELD from a separate column. Utterances whose label has no sentiment, such as surprise, are excluded
  from the last two terms of (6).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from erc_graph.conv.chain import Chain
from erc_graph.data.batch import Batch, ranges
from erc_graph.data.nodes import Nodes
from erc_graph.encoders.dropout import Dropout
from erc_graph.errors import ConfigError
from erc_graph.graphs.recipe import GraphRecipe
from erc_graph.graphs.rules import EdgeRule
from erc_graph.methods.base import Method
from erc_graph.methods.inputs import Given, Shapes
from erc_graph.methods.paper import Paper
from erc_graph.methods.parts import MeanOfTexts, Streams
from erc_graph.methods.ranges import Causal, Share, Size, Weight
from erc_graph.methods.stage import Prediction

NEGATIVE = ("sad", "angry", "frustrated", "sadness", "fear", "disgust", "anger", "mad", "scared", "negative")
POSITIVE = ("happy", "excited", "joy", "joyful", "peaceful", "powerful", "happiness", "positive")
SENTIMENTS = {"neutral": 1, **dict.fromkeys(NEGATIVE, 0), **dict.fromkeys(POSITIVE, 2)}


@dataclass(frozen=True, kw_only=True)
class GraphSmileConfig(Causal):
    """Options of GraphSmile; symbols and numbers such as (4) refer to the equations in the docstring of the module.

    Attributes:
        past: Number of earlier utterances of the other modality from which a node has edges, besides its own utterance.
        future: Number of later utterances of the other modality from which a node has edges, besides its own utterance.
        width: Width of all states.
        layers: Number of layers of each graph.
        window: Number of consecutive utterances in a block; the last term of (6) compares all pairs of utterances of a block.
        sentiment: Weight λ₂ of the sentiment loss; 0: the loss is left out.
        shift: Weight λ₃ of the loss on sentiment differences; 0: the loss is left out.
        sentiments: Label in lower case → its sentiment: 0 (negative), 1 (neutral) or 2 (positive).
        dropout: Dropout after (1) and on the terms of the sum in (3).
    """

    past: Size = 3
    future: Size = 3
    width: Size = 256
    layers: Size = 5
    window: Size = 3
    sentiment: Weight = 1.0
    shift: Weight = 0.5
    sentiments: dict[str, int] = field(default_factory=lambda: dict(SENTIMENTS))
    dropout: Share = 0.2


class GraphSmile(Method):
    """Graph convolutions between pairs of modalities, with additional losses on the sentiment and on differences in sentiment."""

    Config = GraphSmileConfig
    couples_batch = "the batch norm, Eq. (1), and the means over utterances and pairs, Eq. (6)"
    paper = Paper(
        title="Tracing Intricate Cues in Dialogue: Joint Graph Structure and Sentiment Dynamics for Multimodal Emotion Recognition",
        authors="Li, Wang and Zeng",
        venue="IEEE TPAMI",
        year=2025,
        url="https://arxiv.org/abs/2407.21536",
        code="https://github.com/lijfrank-open/GraphSmile",
    )

    def build(self, c: GraphSmileConfig, shapes: Shapes) -> None:
        """Build the modules in the order of the method's equations."""
        self.texts = MeanOfTexts(shapes.widths, norm=True)
        self.names = tuple(self.texts.widths)
        rule = EdgeRule(relation="cross", scope="across", past=c.past, future=0 if c.causal else c.future, weight="learned")
        recipe = GraphRecipe(name="graphsmile", description="Windows between two modalities.", source=str(self.paper), edges=(rule,))
        self.graph = recipe if len(self.names) > 1 else None
        known = [c.sentiments.get(label.lower(), -1) for label in self.task.labels]
        if (c.sentiment or c.shift) and self.task.labels and max(known) < 0:
            raise ConfigError(
                f"pipeline.sentiments: expected the sentiment of at least one label ({', '.join(self.task.labels)}), found none; "
                "add one, or set pipeline.sentiment and pipeline.shift to 0"
            )
        self.register_buffer("sentiment_of", torch.tensor(known, dtype=torch.long), persistent=False)
        self.project = Streams(self.texts.widths, c.width)
        pairs = {f"{m}_{n}": Chain(c.width, recipe, layers=c.layers, dropout=c.dropout) for m, n in combinations(self.names, 2)}
        self.graphs, self.dropout = nn.ModuleDict(pairs), Dropout(c.dropout)
        self.fuse, self.classify = nn.Linear(c.width, c.width), nn.Linear(c.width, shapes.outputs)
        self.of_turn = nn.Linear(c.width, 3) if c.sentiment else None
        self.of_pair = nn.Linear(2 * c.width, 2) if c.shift else None

    def nodes(self, given: Given) -> Nodes:
        """Compute the node states of equation (1): `(N, S, width)` for `S` modalities."""
        x: Nodes = self.project(self.texts(given))
        return x.with_states(self.dropout(F.leaky_relu(x.states)))  # Eq. (1)

    def encode(self, given: Given) -> Tensor:
        """Compute the utterance states `z`: `(N, width)`."""
        x, read, here = self.nodes(given), [], []
        for (m, n), graph in zip(combinations(range(len(self.names)), 2), self.graphs.values(), strict=True):
            pair: Nodes = graph(x.take(m, n), given.batch)  # Eqs. (2), (3)
            read.append(pair.states)
            here.append(pair.present)
        states, present = (torch.cat(read, 1), torch.cat(here, 1)) if read else (x.masked(), x.present)
        parts = torch.where(present[..., None], F.leaky_relu(self.fuse(states)), 0.0)
        return parts.sum(1) / present.sum(1, keepdim=True).clamp(min=1)  # Eq. (4)

    def answer(self, given: Given) -> Prediction:
        """Compute the scores and, in training, the last two terms of the loss, equation (6), with their weights."""
        z = self.encode(given)
        losses = self.losses(z, given.batch) if self.training else {}
        penalty = sum(getattr(self.config, name) * loss for name, loss in losses.items())
        return Prediction(scores=self.classify(z), states=z, penalty=penalty)  # Eq. (5)

    def losses(self, z: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Return the last two terms of equation (6), sentiment and sentiment difference, without their weights."""
        sentiment = torch.where(batch.judged, self.sentiments(batch), -1)
        found = {}
        if self.of_turn is not None:
            found["sentiment"] = _mean_loss(self.of_turn(z), sentiment)  # Eq. (6)
        if self.of_pair is not None:
            i, j = self.pairs(batch)
            known, differ = (sentiment[i] >= 0) & (sentiment[j] >= 0), sentiment[i] != sentiment[j]
            first, second = (F.linear(z, matrix) for matrix in self.of_pair.weight.chunk(2, 1))
            found["shift"] = _mean_loss(first[i] + second[j] + self.of_pair.bias, torch.where(known, differ.long(), -1))
        return found

    def sentiments(self, batch: Batch) -> Tensor:
        """Return the sentiment of each utterance, `(N,)`: 0 (negative), 1 (neutral), 2 (positive), or -1 (unknown)."""
        if self.task.labels:
            return torch.where(batch.target >= 0, self.get_buffer("sentiment_of")[batch.target.clamp(min=0)], -1)
        return torch.where(batch.target.isnan(), -1, batch.target.nan_to_num().sign().long() + 1)

    def pairs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the indices `i` and `j` of all ordered pairs of utterances within a block, sorted by dialogue, block, `i` and `j`."""
        place = batch.turn % self.config.window
        start = torch.arange(batch.utterances, device=batch.device) - place
        size = torch.minimum(batch.lengths[batch.dialogue] - batch.turn + place, torch.full_like(place, self.config.window))
        total = int(size.sum())
        return torch.repeat_interleave(start + place, size, output_size=total), ranges(start, size, total)


def _mean_loss(scores: Tensor, target: Tensor) -> Tensor:
    """Compute the mean cross entropy over the rows with a target; zero if no row has a target."""
    return F.cross_entropy(scores, target, ignore_index=-1, reduction="sum") / (target >= 0).sum().clamp(min=1)
