"""The graph stage: message passing over a conversation, for methods whose paper classifies single utterances.

A method fuses the modalities of an utterance into one vector. This vector is the input state of a node. Message passing adds information
from neighbouring utterances.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from erc_graph.conv.angular.angular import AngularConv
from erc_graph.data.nodes import Nodes
from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.recurrent import Recurrent, side_by_side
from erc_graph.encoders.speaker import SpeakerEmbedding
from erc_graph.graphs.recipe import GraphRecipe
from erc_graph.methods.base import Method
from erc_graph.methods.inputs import Given
from erc_graph.methods.ranges import Causal, Checked, Even
from erc_graph.methods.schema import Kind

FUSED = "fused"  # the stream of an utterance's fused vector
DROPOUT = 0.3  # in GRU and graph


@dataclass(frozen=True, kw_only=True)
class ConversationConfig(Checked):
    """Options of the graph stage: message passing between utterances, after the modalities of each utterance are fused.

    Attributes:
        width: Width of the node states.
        recurrent: Add a GRU over the utterances before message passing.
    """

    where = "pipeline.conversation"

    width: Even = 128
    recurrent: bool = True


@dataclass(frozen=True, kw_only=True)
class InConversation(Causal):
    """Options of all methods whose paper classifies single utterances.

    Attributes:
        graph: Graph recipe, which defines the edges between utterances. `none` means no message passing.
        conversation: Options of the message passing between utterances.
    """

    graph: str = "speaker"
    conversation: ConversationConfig = field(default_factory=ConversationConfig)


class Conversation(nn.Module):
    """The graph stage: projection, GRU over the utterances, speaker embedding and angular graph convolution.

    The resulting states are concatenated with the input vectors, so that the classifier also reads the unchanged vector of the utterance.
    Without a graph recipe, the output is the input, and the method classifies single utterances, as in its paper.

    Args:
        inputs: Width of the utterance vectors.
        recipe: Graph recipe, which defines the edges between utterances. `None`: there is no graph stage.
        config: Options of the graph stage.
        causal: Whether the GRU has only the forward direction, so that it reads no later utterances.
        speaker: Width of the speaker vectors of the corpus; 0: speaker embeddings are learned.

    Attributes:
        width: Width of the output vectors.
    """

    def __init__(
        self, inputs: int, recipe: GraphRecipe | None, config: ConversationConfig, *, causal: bool = False, speaker: int = 0
    ) -> None:
        super().__init__()
        self.width = inputs
        self.conv: AngularConv | None = None
        if recipe is None:
            return
        width = config.width
        self.project = nn.ModuleDict({FUSED: nn.Sequential(nn.Linear(inputs, width), nn.ReLU())})
        self.encode = nn.ModuleDict({FUSED: Recurrent("gru", width, width, bidirectional=not causal)} if config.recurrent else {})
        self.speaker = SpeakerEmbedding(width, given=speaker)
        self.conv = AngularConv(width, recipe, dropout=DROPOUT)
        self.conv.label = "conversation"
        self.dropout = Dropout(DROPOUT)
        self.width += self.conv.width

    def forward(self, vectors: Tensor, present: Tensor, given: Given) -> Tensor:
        """Concatenate every utterance's own vector with its state after message passing.

        Args:
            vectors: Utterance vectors, `(N, inputs)`.
            present: `(N,)` bool mask of the utterances that have a vector; any other utterance has no edges and a zero vector.
            given: The preprocessed batch.

        Returns:
            Utterance states, `(N, width)`.
        """
        own = torch.where(present[:, None], vectors, 0.0)
        if self.conv is None:
            return own
        rows = self.project[FUSED](self.dropout(vectors))
        if self.encode:
            (rows,) = side_by_side([self.encode[FUSED]], [self.dropout(rows)], given.batch)  # type: ignore[list-item]
        nodes = Nodes((rows + self.speaker(given))[:, None], present[:, None], (FUSED,))
        return torch.cat([own, self.conv(nodes, given.batch).states[:, 0]], -1)


class UtteranceMethod(Method):
    """Abstract base class of methods whose paper classifies single utterances."""

    family = "fusion"
    reads: ClassVar[tuple[Kind, ...]] = ("sequences", "features")

    def around(self, inputs: int) -> Conversation:
        """Build the graph stage over utterance vectors of width `inputs`. The method's option class must derive from `InConversation`."""
        c, speaker = self.config, self.inputs.shapes.speaker
        return Conversation(inputs, self.graph, c.conversation, causal=c.causal, speaker=speaker)
