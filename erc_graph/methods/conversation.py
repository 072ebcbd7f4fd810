"""The graph stage over a conversation, for methods whose paper reads one utterance at a time.

The fused vector of an utterance is the state of a node; message passing adds information from the neighbours.
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
    """The graph stage after an utterance-level method.

    Attributes:
        width: Width of the node states.
        recurrent: A GRU over the utterances before the graph.
    """

    where = "pipeline.conversation"

    width: Even = 128
    recurrent: bool = True


@dataclass(frozen=True, kw_only=True)
class InConversation(Causal):
    """Options that methods share whose paper sees one utterance at a time.

    Attributes:
        graph: Recipe of the conversation's graph; `none`: no stage after the method's own network.
        conversation: The graph stage.
    """

    graph: str = "speaker"
    conversation: ConversationConfig = field(default_factory=ConversationConfig)


class Conversation(nn.Module):
    """Utterance vectors to states that know the conversation: projection, GRU over the utterances, speaker embedding, angular graph
    convolution.

    What goes in is concatenated with what comes out, so that an utterance's own vector reaches the classifier unchanged. Without a recipe
    nothing else does: the method is the paper's own, one utterance at a time.

    Args:
        inputs: Width of the vectors.
        recipe: The graph; `None`: no conversation.
        config: Width.
        causal: Whether the GRU reads only forward.
        speaker: Width of given speaker vectors; 0: learned ones.

    Attributes:
        width: Width of the output rows.
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
        """Return every utterance's own vector, followed by its state after message passing.

        Args:
            vectors: `(N, inputs)`.
            present: `(N,)` bool; an absent utterance has no edges, and its own vector is zero.
            given: The dialogues.

        Returns:
            `(N, width)`.
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
    """A method whose paper sees one utterance at a time; abstract."""

    family = "fusion"
    reads: ClassVar[tuple[Kind, ...]] = ("sequences", "features")

    def around(self, inputs: int) -> Conversation:
        """Return the graph stage after its vectors `(N, inputs)`, as its options say."""
        c, speaker = self.config, self.inputs.shapes.speaker
        return Conversation(inputs, self.graph, c.conversation, causal=c.causal, speaker=speaker)
