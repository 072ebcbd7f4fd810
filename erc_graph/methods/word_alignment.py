r"""Word alignment: each word attends to the frames of audio and video, gates refine both, and a graph stage follows.

This method has no paper. We offer it in place of TSIN (Chen et al., IEEE/ACM TASLP 29, 2021), of which we know only the abstract. TSIN
aligns speech and text in time, lets their meanings interact, and has losses that keep both consistent.

.. math::
    h_m &= \mathrm{GRU}(W_m f_m) \tag{1} \\
    \tilde h_m &= \mathrm{softmax}_{\text{frames}}\Big(\frac{Q h_t (K h_m)^\top}{\sqrt d}\Big) V h_m
        \qquad \text{a state of sound per word} \tag{2} \\
    h'_t &= \mathrm{LN}\big(h_t + \sigma(G_m [h_t ; \tilde h_m]) \odot M_m \tilde h_m\big), \quad
        h'_m = \mathrm{LN}\big(\tilde h_m + \sigma(G'_m [\tilde h_m ; h_t]) \odot M'_m h_t\big) \tag{3} \\
    u &= [\mathrm{sum}_\beta h'_t ; \mathrm{sum}_\beta h'_a ; \mathrm{sum}_\beta h'_v], \qquad s = W u + b \tag{4} \\
    L &= L_{ce} + \lambda_t \overline{1 - \cos(P h'_t, P_m h'_m)} + \lambda_s \overline{\mathrm{KL}(p_t, p_m) + \dots} \tag{5}

| symbol | attribute | shape |
|---|---|---|
| `W_m`, GRU | `front[m]` or `project[m]`, `read[m]` | `(width, features)`, `(n, L, width)` |
| `Q`, `K`, `V` | `align[m]` | see `CrossAttention`, of one head |
| `G`, `M`, `G'`, `M'`, LN | `text_gate[m]`, `sound_gate[m]` | `(width, 2 width)`, `(width, width)` |
| sum over β | `pool[m]` | see `AttentiveSum` |
| `P`, `P_m`, `p_t`, `p_m` | `common[m]`, `own[m]` | `(width, width)`, `(classes, width)` |

**Differences from the paper**

- We do not know how TSIN aligns speech and text, or which constraints it has; (2), (3) and (5) are guesses. TSIN has no video; here video
  is aligned in the same way as audio.
- A modality with one vector per utterance is a sequence of one step. Then (2) is only a linear map, and only the gates and the consistency
  losses have an effect.
- If an utterance or the corpus has no text, audio and video are pooled without alignment. A missing modality is zero in (4) and has no term
  in (5).
- Eq. (5): the KL divergence, in both directions, compares the class predictions from the pooled text with those from another pooled
  modality. For a score task, the squared difference replaces the KL divergence. The bars denote means over all utterances.
- After (4), this method has the same graph stage as other methods that read single utterances; the option `graph = "none"` removes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from erc_graph.data.ragged import Ragged
from erc_graph.encoders.attentive import AttentiveSum
from erc_graph.encoders.cross_attention import CrossAttention
from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.frontend import FrontEnds
from erc_graph.encoders.sequences import encode_together, masked_mean
from erc_graph.methods.conversation import InConversation, UtteranceMethod
from erc_graph.methods.inputs import Given, Shapes
from erc_graph.methods.ranges import Share, Size, Weight
from erc_graph.methods.stage import Prediction

TOKENS = 1 << 14  # most words and frames that are encoded at once; samples of a waveform have become frames before


@dataclass(frozen=True, kw_only=True)
class WordAlignmentConfig(InConversation):
    """Options of word alignment.

    Attributes:
        width: Width of all states.
        dropout: Dropout before (4) and before the classifier.
        temporal: Weight λ_t of the alignment loss in (5).
        semantic: Weight λ_s of the prediction loss in (5).
    """

    width: Size = 128
    dropout: Share = 0.3
    temporal: Weight = 0.1
    semantic: Weight = 0.1


class Refine(nn.Module):
    """The gated update of one modality by another modality, Eq. (3)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate, self.message, self.norm = nn.Linear(2 * width, width), nn.Linear(width, width), nn.LayerNorm(width)

    def forward(self, own: Tensor, other: Tensor, heard: Tensor) -> Tensor:
        """Update the states `own` by `other`, `(n, L, width)` each; where the mask `heard`, `(n, 1, 1)`, is false, return `own`."""
        refined = self.norm(own + self.gate(torch.cat([own, other], -1)).sigmoid() * self.message(other))  # Eq. (3)
        return torch.where(heard, refined, own)


class WordAlignment(UtteranceMethod):
    """Words that attend to the frames of audio and video, then a graph stage over the conversation."""

    Config = WordAlignmentConfig
    stands_for = "Stands in for TSIN, whose abstract only names alignment and consistency constraints: the rest is a guess"
    unused = {"align.*.key.bias": "it adds the same to all scores of a word, which cancels in the softmax"}

    def build(self, c: WordAlignmentConfig, shapes: Shapes) -> None:
        """Build the modules in the order of the equations."""
        self.names, width = shapes.modalities, c.width
        others = tuple(name for name in self.names if name != "text") if "text" in self.names else ()

        def each(part: type[nn.Module], *sizes: int, names: tuple[str, ...] = others) -> nn.ModuleDict:
            return nn.ModuleDict({name: part(*sizes) for name in names})

        self.front = FrontEnds(shapes.items, width)
        self.project = nn.ModuleDict({name: nn.Linear(inputs, width) for name, inputs in shapes.widths.items()})
        self.read = nn.ModuleDict({name: nn.GRU(width, width, batch_first=True) for name in self.names})
        self.align, self.text_gate, self.sound_gate = each(CrossAttention, width, width, width), each(Refine, width), each(Refine, width)
        self.pool = each(AttentiveSum, width, names=self.names)
        self.common = each(nn.Linear, width, width, names=("text", *others) if others and c.temporal else ())
        self.own = each(nn.Linear, width, shapes.outputs, names=("text", *others) if others and c.semantic else ())
        self.conversation = self.around(len(self.names) * width)
        self.drop = Dropout(c.dropout)
        self.classify = nn.Sequential(Dropout(c.dropout), nn.Linear(self.conversation.width, shapes.outputs))

    def parts_of(self, padded: Mapping[str, tuple[Tensor, Tensor]]) -> Tensor:
        """Compute the pooled vectors of all modalities, and the distances of audio and video from the words.

        The output has the shape `(n, modalities · width + distances)`.
        """
        states = {}
        for name, (values, mask) in padded.items():
            frames, mask = self.front[name](values, mask) if name in self.front else (self.project[name](values), mask)
            states[name] = (self.read[name](frames)[0] if frames.shape[1] else frames, mask)  # Eq. (1)
        pooled = {name: self.pool[name](*found) for name, found in states.items()}
        apart = []
        if self.align:
            words, mask = states["text"]
            said, refined = mask.any(1)[:, None, None], words
            for name, align in self.align.items():
                sound, frames = states[name]
                heard = frames.any(1)[:, None, None]
                aligned = align(words, sound, frames)  # Eq. (2), (n, words, width), zero where nothing is heard
                refined = self.text_gate[name](refined, aligned, heard)
                answer = self.sound_gate[name](aligned, words, said)
                both = (said & heard)[..., 0]
                pooled[name] = torch.where(both, self.pool[name](answer, mask), pooled[name])
                if name in self.common:
                    distance = 1 - F.cosine_similarity(self.common["text"](refined), self.common[name](answer), dim=-1)
                    apart.append(masked_mean(distance[..., None], mask) * both)
            pooled["text"] = self.pool["text"](refined, mask)
        return torch.cat([*(pooled[name] for name in self.names), *apart], -1)

    def sequences(self, given: Given) -> dict[str, Ragged]:
        """Return modality → its sequences; a vector becomes a sequence of one step."""
        found = {**given.sequences, **{name: Ragged.of_rows(rows, given.present[name]) for name, rows in given.values.items()}}
        return {name: found[name] for name in self.names}

    def answer(self, given: Given) -> Prediction:
        """Compute the scores and, in training, both consistency losses."""
        c, wide = self.config, len(self.names) * self.config.width
        everything = wide + (len(self.align) if self.common else 0)
        found = encode_together(self.parts_of, self.sequences(given), everything, TOKENS)
        here = given.here(self.names)
        u = self.drop(found[:, :wide].unflatten(1, (len(self.names), -1)))  # (N, modalities, width)
        states = self.conversation(u.flatten(1), here.any(1), given)  # Eq. (4)
        penalty = found.new_zeros(())
        if self.training and self.align:
            penalty = c.temporal * found[:, wide:].sum() / len(found) + c.semantic * self.disagreement(u, here)  # Eq. (5)
        return Prediction(scores=self.classify(states), states=states, penalty=penalty)

    def disagreement(self, u: Tensor, here: Tensor) -> Tensor:
        """Compute the mean distance of the predictions from audio and from video to the prediction from text, summed over both."""
        total = u.new_zeros(())
        if not self.own:
            return total
        said = {name: self.own[name](u[:, self.names.index(name)]) for name in self.own}
        for name in self.align:
            one, other = said["text"], said[name]
            if self.task.kind == "classification":
                p, q = one.log_softmax(-1), other.log_softmax(-1)
                gap = ((p.exp() - q.exp()) * (p - q)).sum(-1)  # KL both ways
            else:
                gap = (one - other).square().sum(-1)
            total = total + (gap * here[:, self.names.index("text")] * here[:, self.names.index(name)]).sum() / len(u)
        return total
