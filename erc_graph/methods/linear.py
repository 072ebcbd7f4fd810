r"""Baseline: a linear layer on the features of an utterance, without conversation, graph or speakers.

.. math::
    s = W [f_a ; f_t ; f_v] + b \tag{1}

| symbol | attribute | shape |
|---|---|---|
| `f_m` | | `(N, features)`, zero where missing |
| `W`, `b` | `classify` | `(classes, features)`, `(classes,)` |

Tables of results contain this baseline to show how much the conversation improves them. On features that are hidden states of a language
model, this baseline is a linear probe. On features that are log-probabilities of a fine-tuned encoder, this baseline recalibrates them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from erc_graph.methods.base import Method
from erc_graph.methods.inputs import Shapes
from erc_graph.methods.parts import Turn
from erc_graph.methods.ranges import Causal, Share


@dataclass(frozen=True, kw_only=True)
class LinearConfig(Causal):
    """Options of the linear baseline.

    Attributes:
        dropout: Dropout on the features.
    """

    dropout: Share = 0.3


class Linear(Method):
    """A linear layer on the features of an utterance, without its conversation."""

    Config = LinearConfig
    family = "fusion"

    def parts(self, config: LinearConfig, shapes: Shapes) -> Iterator[nn.Module]:
        """Yield the module that concatenates the features; a linear classifier follows this module."""
        yield Turn(shapes.widths)  # Eq. (1) with the classifier
