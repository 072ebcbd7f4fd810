r"""MHDNN: a multimodal hierarchical network for emotion in speech, after Singh et al. (Knowledge-Based Systems, 2021).

The root network predicts a group of emotions. For each group, a further network predicts the emotion within the group. The equations are
ours, because we had access only to the abstract.

.. math::
    x &= [x_1 ; x_2 ; \dots ; b_1 ; b_2 ; \dots] \qquad \text{(modalities, and one bit each: whether it is there)} \tag{1} \\
    h_k &= \mathrm{DNN}_k(x), \qquad \text{a layer: } \mathrm{ReLU}(\mathrm{BatchNorm}(W x)) \tag{2} \\
    p_k &= \mathrm{softmax}(V_k [h_k ; c] + d_k) \qquad k \in \{\text{root, groups}\} \tag{3} \\
    p(\text{label}) &= p_{\text{root}}(\text{group}) \; p_{\text{group}}(\text{label}) \quad \text{(the last: 1 in a group of one)} \tag{4}

| symbol | attribute | shape |
|---|---|---|
| `x` | `turn` and presence | `(N, 1, features + modalities)` |
| `DNN_k` | `nets[k]`; the root network is the first | `(N, hidden[-1])` |
| `c` | `conversation`, computed from the root's `h`; left out without a graph stage | `(N, width of the graph's states)` |
| `V_k` | `branches[k]` | `(children, hidden[-1] + width of c)` |

**What is guessed**

- The abstract says "in a hierarchical manner". We assume a hierarchy of classes, but the features could also form a hierarchy.
- By default, there are two groups: emotions of high arousal, by our list `AROUSED`, and all other emotions. Our list does not contain
  disgust and powerful. If a corpus has labels of only one group, a single network predicts all labels. The paper compares its method with
  this model.
- The number of layers, their widths, batch norm, dropout, and all training settings are guesses.
- Eq. (4) always multiplies the probabilities of a group and of a label in it. If only the most probable group were considered, an error of
  the root network could not be corrected.
- All networks are trained together with the cross entropy of (4). The logarithm of (4) is a sum, so the network of a group learns only from
  utterances of this group. There are two exceptions. The batch norm of a network uses all utterances. With a graph stage, all losses send a
  gradient to the root network through `c`.
- The paper does not list its 33 audio features; here all features of the corpus are read. The paper uses ELMo for text; here text is a
  vector of the corpus. A sequence becomes a vector of its mean and standard deviation over time. A missing modality is zero, which is its
  mean over the training data, and its presence bit is zero.
- The paper does not model the conversation; the option `graph = "none"` removes the graph stage. The class tree is the classifier of the
  method, so the output layers of all networks in (3) read the graph states `c`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor, nn

from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.encoders.batch_norm import BatchNorm
from erc_graph.encoders.dropout import Dropout
from erc_graph.errors import ConfigError, expect
from erc_graph.methods.conversation import InConversation, UtteranceMethod
from erc_graph.methods.inputs import Given, Shapes
from erc_graph.methods.paper import Paper
from erc_graph.methods.parts import Turn
from erc_graph.methods.ranges import Share, Sizes
from erc_graph.methods.stage import Prediction

AROUSED = (
    "anger", "angry", "mad", "frustrated", "frustration", "joy", "joyful", "happy", "happiness", "excited", "excitement", "fear",
    "fearful", "scared", "surprise", "surprised",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class MHDNNConfig(InConversation):
    """Options of MHDNN.

    Attributes:
        groups: Labels of each group; the labels in no group form a further group. Empty: emotions of high arousal, and all other emotions.
        hidden: Widths of the layers; all networks have the same widths.
        dropout: Dropout after every layer.
    """

    groups: list[list[str]] = field(default_factory=list)
    hidden: Sizes = field(default_factory=lambda: [256, 128, 64])
    dropout: Share = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        named = [label for group in self.groups for label in group]
        apart = len(set(named)) == len(named) and all(self.groups)
        expect(self.where, self, groups=(apart, "groups that are not empty, and no label twice"))


class Layers(nn.Module):
    """The network of one inner node of the class tree, Eq. (2): of the root or of a group of labels."""

    def __init__(self, inputs: int, hidden: list[int], dropout: float) -> None:
        super().__init__()
        self.linear = nn.ModuleList(nn.Linear(wide, width, bias=False) for wide, width in pairwise([inputs, *hidden]))
        self.norm = nn.ModuleList(BatchNorm(width) for width in hidden)
        self.dropout = Dropout(dropout)

    def forward(self, nodes: Nodes, batch: Batch) -> Tensor:
        """Map the inputs of `N` utterances, `(N, 1, inputs)`, to `(N, hidden[-1])`; zero for an utterance without any modality."""
        for linear, norm in zip(self.linear, self.norm, strict=True):
            nodes = norm(nodes.with_states(linear(nodes.states)), batch)
            nodes = nodes.with_states(self.dropout(nodes.states.relu()))
        return nodes.masked()[:, 0]


class MHDNN(UtteranceMethod):
    """A class tree with a network at each inner node, after Singh et al., and a graph stage."""

    Config = MHDNNConfig
    reads = ("features", "sequences")
    couples_batch = "the batch norm of the layers, Eq. (2)"
    paper = Paper(
        title="A multimodal hierarchical approach to speech emotion recognition from audio and text",
        authors="Singh et al.",
        venue="Knowledge-Based Systems 229",
        year=2021,
        after=True,
    )

    def tree(self, config: MHDNNConfig) -> list[list[int]]:
        """Return the indices of the labels in each group."""
        labels = self.task.labels
        if self.task.kind != "classification":
            raise ConfigError("task: expected a task with classes, because MHDNN builds a tree of the classes, found a task with a score")
        groups = config.groups or [[label for label in labels if label.lower() in AROUSED]]
        named = [label for group in groups for label in group]
        if unknown := sorted(set(named) - set(labels)):
            raise ConfigError(f"pipeline.groups: expected labels of the task {self.task.name} ({', '.join(labels)}), found {unknown[0]!r}")
        every = [*groups, [label for label in labels if label not in named]]
        return [[labels.index(label) for label in group] for group in every if group]

    def build(self, config: MHDNNConfig, shapes: Shapes) -> None:
        """Build one network and one classifier per inner node, and the graph stage."""
        self.groups = self.tree(config)
        self.turn = Turn(shapes.widths)
        inner = [group for group in self.groups if len(group) > 1] if len(self.groups) > 1 else []
        children = [len(self.groups) if len(self.groups) > 1 else shapes.outputs, *map(len, inner)]
        wide, width = self.turn.width + len(shapes.widths), config.hidden[-1]
        self.nets = nn.ModuleList(Layers(wide, config.hidden, config.dropout) for _ in children)
        self.conversation = self.around(width)
        self.branches = nn.ModuleList(nn.Linear(self.conversation.width, count) for count in children)

    def answer(self, given: Given) -> Prediction:
        """Compute the log-probabilities of `C` labels for `N` utterances, `(N, C)`."""
        turn, here = self.turn(given), given.here(self.turn.names)
        x = turn.with_states(torch.cat([turn.states, here[:, None].to(turn.states.dtype)], -1))  # Eq. (1)
        h = [net(x, given.batch) for net in self.nets]  # Eq. (2), each (N, hidden[-1])
        states = self.conversation(h[0], here.any(1), given)
        around = states[:, h[0].shape[1] :]
        p = [branch(torch.cat([own, around], -1)).log_softmax(-1) for branch, own in zip(self.branches, h, strict=True)]  # Eq. (3)
        if len(self.groups) == 1:
            return Prediction(scores=p[0], states=states)
        within = iter(p[1:])
        paths = [p[0][:, [k]] + (next(within) if len(group) > 1 else 0) for k, group in enumerate(self.groups)]  # Eq. (4)
        order = torch.tensor([label for group in self.groups for label in group], device=states.device)
        return Prediction(scores=torch.cat(paths, -1)[:, order.argsort()], states=states)
