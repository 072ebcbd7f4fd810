r"""GraphSmile: Joint Graph Structure and Sentiment Dynamics for Multimodal Emotion Recognition (Li, Wang and Zeng, IEEE TPAMI, 2025).

Every pair of modalities has a graph. Training has three tasks: emotion, sentiment, and whether two utterances differ in sentiment. We had
no access to the paper's text: the equations follow the public code, with our numbering. As in the code, speakers are not used.

.. math::
    x_m &= \mathrm{LeakyReLU}(W_m f_m + b_m), \qquad f_{text} \text{ behind a batch norm} \tag{1} \\
    F^0 &= [x_m ; x_n], \qquad F^k = D^{-1/2} A D^{-1/2} F^{k-1} W_k + b_k \tag{2} \\
    S &= F^0 + \textstyle\sum_k \mathrm{LeakyReLU}(U_k F^k + c_k) \tag{3} \\
    z_i &= \mathrm{mean}_{\{m, n\} \ni m} \mathrm{LeakyReLU}(W_f S^{mn}_{i,m} + b_f) \tag{4} \\
    s_i &= W_e z_i + b_e \tag{5} \\
    L &= \mathrm{CE}(s) + \lambda_2 \mathrm{CE}(W_s z_i + b_s) + \lambda_3 \mathrm{CE}(W_d [z_i ; z_j] + b_d) \tag{6}

In `A`, a node reads no utterance of its own modality. It reads a window of the other modality, which includes its own utterance. The last
term of (6) runs over all ordered pairs of utterances, `i = j` included, in blocks of `window` consecutive utterances.

| symbol | attribute | shape |
|---|---|---|
| batch norm, `W_m` | `texts.norm.text`, `project.project[m]` | `(features,)`, `(width, features)` |
| `W_k`, `U_k` | `graphs[pair].maps`, `.read` | `(width, width)` each |
| `W_f` | `fuse` | `(width, width)` |
| `W_e`, `W_s`, `W_d` | `classify`, `of_turn`, `of_pair` | `(classes, width)`, `(3, width)`, `(2, 2 width)` |

**Differences from the paper and from its public code**

- The public code takes accuracy and F1 on test data, each from its own epoch; its development split is part of its training data. It
  repeats the dialogue order and the dropout masks in every epoch. Here development data select the epoch.
- Edges have weight one. In the public code, an edge has a learned weight by its position in the batch, so scores depend on the dialogue
  order. If the sum of these weights is negative, every score of the batch is NaN.
- The batch norm of (1) counts only true utterances; in the public code also padding. Several texts (`text1` to `text4`) are averaged after
  their norms.
- The layers of a graph have different initial weights; in the public code they are copies of one layer.
- A missing modality has no node, and (4) is the mean over the others. A single modality has no graph: `S = F^0`.
- The sentiments of (6) follow from the labels (option `sentiments`), for scores from the sign; the public code has a separate column for
  MELD. Labels without a sentiment, such as surprise, are excluded from both losses.
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
    """Options of GraphSmile.

    Attributes:
        past: Number of earlier utterances that a node reads in the other modality, besides its own utterance.
        future: Number of later utterances that a node reads in the other modality.
        width: Width of all states.
        layers: Number of layers of each graph.
        window: Number of utterances in a block whose pairs are compared.
        sentiment: Weight λ₂ of the sentiment loss; 0: no such task.
        shift: Weight λ₃ of the loss on sentiment changes; 0: no such task.
        sentiments: Label in lower case → 0 negative, 1 neutral, 2 positive.
        dropout: Dropout after (1) and on the summands of (3).
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
    """Graph convolutions between pairs of modalities, and losses on sentiment and its changes."""

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
        """Build the parts in the order of the equations."""
        self.texts = MeanOfTexts(shapes.widths, norm=True)
        self.names = tuple(self.texts.widths)
        rule = EdgeRule(relation="cross", scope="across", past=c.past, future=0 if c.causal else c.future, weight="learned")
        recipe = GraphRecipe(name="graphsmile", description="Windows between two modalities.", source=str(self.paper), edges=(rule,))
        self.graph = recipe if len(self.names) > 1 else None
        known = [c.sentiments.get(label.lower(), -1) for label in self.task.labels]
        if (c.sentiment or c.shift) and self.task.labels and max(known) < 0:
            raise ConfigError(
                f"pipeline.sentiments: expected the sentiment of at least one label ({', '.join(self.task.labels)}), found none; "
                "or set pipeline.sentiment and pipeline.shift to 0"
            )
        self.register_buffer("sentiment_of", torch.tensor(known, dtype=torch.long), persistent=False)
        self.project = Streams(self.texts.widths, c.width)
        pairs = {f"{m}_{n}": Chain(c.width, recipe, layers=c.layers, dropout=c.dropout) for m, n in combinations(self.names, 2)}
        self.graphs, self.dropout = nn.ModuleDict(pairs), Dropout(c.dropout)
        self.fuse, self.classify = nn.Linear(c.width, c.width), nn.Linear(c.width, shapes.outputs)
        self.of_turn = nn.Linear(c.width, 3) if c.sentiment else None
        self.of_pair = nn.Linear(2 * c.width, 2) if c.shift else None

    def nodes(self, given: Given) -> Nodes:
        """Compute the node states of Eq. (1): `(N, S, width)`."""
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
        """Compute the scores and, in training, the losses of both further tasks."""
        z = self.encode(given)
        losses = self.losses(z, given.batch) if self.training else {}
        penalty = sum(getattr(self.config, name) * loss for name, loss in losses.items())
        return Prediction(scores=self.classify(z), states=z, penalty=penalty)  # Eq. (5)

    def losses(self, z: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Return the last two terms of Eq. (6) without their weights."""
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
        """Return the sentiment of each utterance, `(N,)`: 0, 1 or 2; -1 if unknown."""
        if self.task.labels:
            return torch.where(batch.target >= 0, self.get_buffer("sentiment_of")[batch.target.clamp(min=0)], -1)
        return torch.where(batch.target.isnan(), -1, batch.target.nan_to_num().sign().long() + 1)

    def pairs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the rows of all ordered utterance pairs within the blocks, sorted by dialogue, block, first and second utterance."""
        place = batch.turn % self.config.window
        start = torch.arange(batch.utterances, device=batch.device) - place
        size = torch.minimum(batch.lengths[batch.dialogue] - batch.turn + place, torch.full_like(place, self.config.window))
        total = int(size.sum())
        return torch.repeat_interleave(start + place, size, output_size=total), ranges(start, size, total)


def _mean_loss(scores: Tensor, target: Tensor) -> Tensor:
    """Cross entropy over the rows with a target; zero where there is none."""
    return F.cross_entropy(scores, target, ignore_index=-1, reduction="sum") / (target >= 0).sum().clamp(min=1)
