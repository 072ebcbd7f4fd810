r"""MFDR: Multiple-stage Fusion and Dynamically Refined Network for Multimodal Emotion Recognition (Zhao et al., Interspeech 2024).

In sliding adaptive window attention (SAWA), each word attends to the audio frames of its own window (Algorithm 1,
`erc_graph.encoders.sawa`). The output is z, with one state per word. The gated context perception unit (GCPU), a recurrent unit, reads z
and g, where g is multi-head self-attention over z:

.. math::
    r_t &= \sigma(W_{hr} h_{t-1} + W_{zr} z_t + W_{gr} g_t + b_r) \tag{1} \\
    \tilde z_t &= \tanh(W_{z \tilde z} z_t + W_{h \tilde z} (r_t \odot h_{t-1}) + b_{\tilde z}) \tag{2} \\
    \tilde g_t &= \tanh(W_{g \tilde g} g_t + W_{h \tilde g} (r_t \odot h_{t-1}) + b_{\tilde g}) \tag{3} \\
    \tilde h_t &= \tilde z_t + \tilde g_t \tag{4} \\
    u_t &= \sigma(W_{\tilde z u} \tilde z_t + W_{\tilde g u} \tilde g_t + W_{hu} (r_t \odot h_{t-1}) + b_u) \tag{5} \\
    h_t &= r_t \odot h_{t-1} + u_t \odot \tilde h_t \tag{6}

Two layers of dynamic frame convolution (DFC) then reduce the number of states:

.. math::
    \bar N_f &= \lfloor (L - \omega_f) / h_f \rfloor + 1 \tag{7} \\
    \Phi &= W(M) \tag{8}

The output of (8) gives the utterance vector, which is the input of the graph stage. With the option `graph = "none"`, as in the paper, the
utterance vector is the input of the classifier.

| paper | here | shape |
|---|---|---|
| words, frames | `fronts` | (utterances, L or T, width) |
| q, k, v | `attend.query`, `.key`, `.value` | (utterances, L or T, width) |
| ω_X, h_X | `sawa.window`, `sawa.hop` | |
| diag_att | `attend.weights` | (utterances, L, T) |
| z | `combine` | (utterances, L, width) |
| g, h | `perceive.attend`, `perceive.cell` | (utterances, L, width or gcpu.width) |
| M, W, Φ | `refine.layers[i].map`, `.first` to `.last`, `.kernels` | (D, L), …, (N_f, D, ω_f) |
| L, T | `words`, `frames` | |

Differences from the paper:

- The paper classifies each utterance without its conversation; here a graph stage follows. A batch consists of dialogues, not of single
  utterances.
- An utterance of n words has N windows of real frames. Word i attends only to the frames of window ⌊i N / n⌋, which may grow. In the paper,
  word i attends to window i. The paper has L = N = 50 words and windows, but real utterances have fewer words.
- Algorithm 1: a window at the start or end of an utterance grows in one direction only. The paper mentions "special processing" of such
  windows but does not describe it. Lines 6 and 12 require 0.5 ω_X and ω_X key points, half of the frames of the window. A key point is a
  frame whose weight exceeds the mean weight. Here, half of the window's real frames must be key points. We compute the mean of line 11 over
  all weights computed so far. The indices in lines 9 and 10 use ω_X, although windows begin every h_X frames.
- In the paper, z is a weighted sum of frames and does not contain the word itself. Here the state of the word is added, and a layer norm
  follows, as in any cross-attention layer. The option `sawa.residual = false` gives the printed form.
- By default, words, frames and states have the width 256, the hidden size of the paper. The paper states neither the number of heads nor
  the dropout.
- MGRU (Fig. 4) is an alternative recurrent unit. We assume that its update gate is computed from h, z and g, like its reset gate. We
  implement the paper's variant "w/o Context" as g = z.
- Eq. (8): the printed shape of Φ is N_f × f × f × D. A frame is reduced to one state, so the second dimension f would only be summed over.
  Here Φ has the shape N_f × D × ω_f. The learned map M has one column per word. The network W is a convolution, a layer norm, a ReLU and a
  second convolution. If a frame extends beyond the end of an utterance, its padding is ignored.
- The paper's variant "linear" (`dfc.pooling = "linear"`) maps every state to a new state of equal width. With the option
  `dfc.readout = "flat"`, the utterance vector is the concatenation of all frames, the paper's compact representation. By default, the
  utterance vector is the mean over real frames. The mean does not depend on the length of the longest utterance.
- In an utterance without frames, the words attend to themselves. In an utterance without words, the mean frame of each window replaces a
  word. A corpus with only text or only audio therefore works.
- A waveform is converted to MFCCs with 100 frames per second; WavLM features have 50 frames per second. Every `stride` neighbouring frames
  are averaged to one frame. Longer utterances are cut to L words and T frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from erc_graph.data.batch import Batch
from erc_graph.data.corpus import Dialogue
from erc_graph.data.ragged import Ragged, chunked
from erc_graph.encoders.dfc import FramePooling, Pooling
from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.frontend import FrontEnds
from erc_graph.encoders.gcpu import Cell, ContextPerception
from erc_graph.encoders.sawa import SlidingAdaptiveWindowAttention, window_start, windows_of
from erc_graph.encoders.sequences import encode_together, masked_mean
from erc_graph.errors import ConfigError, expect
from erc_graph.graphs.word_windows import HeteroData
from erc_graph.methods.conversation import InConversation, UtteranceMethod
from erc_graph.methods.inputs import Given, Shapes
from erc_graph.methods.paper import Paper
from erc_graph.methods.parts import Classifier
from erc_graph.methods.ranges import Checked, Range, Share, Size, Sizes
from erc_graph.methods.schema import Schema
from erc_graph.methods.stage import evaluating

TEXT, AUDIO = "text", "audio"
TOKENS = 8192  # most words and frames that are computed at once, padding included
Padded = tuple[Tensor, Tensor]


@dataclass(frozen=True, kw_only=True)
class SawaConfig(Checked):
    """Options of sliding adaptive window attention (SAWA).

    Attributes:
        window: Window width ω_X in frames; 0: every word attends to all frames ("full-size").
        hop: Hop h_X: number of frames from the start of one window to the start of the next.
        adaptive: Let windows grow if many of their frames are similar to the word.
        residual: Add the words to their attention output.
    """

    where = "pipeline.sawa"

    window: Annotated[int, Range(lambda value: value >= 0 and value % 2 == 0, "an even number of frames, or 0 for all")] = 10
    hop: int = 5
    adaptive: bool = True
    residual: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        fits = self.hop >= 1 and (not self.adaptive or not self.window or 2 * self.hop == self.window)
        expect(self.where, self, hop=(fits, "1 or more, and half of `window` if `adaptive` is true"))


@dataclass(frozen=True, kw_only=True)
class GcpuConfig(Checked):
    """Options of the gated context perception unit (GCPU).

    Attributes:
        width: Width of the unit's states.
        cell: Recurrent unit: `gcpu`, `mgru` (with a complementary update gate, as in a GRU) or `gru` (reads only z).
        context: Use multi-head attention over z as the second input g; off: g is z itself.
        heads: Number of heads of the multi-head attention.
    """

    where = "pipeline.gcpu"

    width: Size = 256
    cell: Cell = "gcpu"
    context: bool = True
    heads: Size = 4


@dataclass(frozen=True, kw_only=True)
class DfcConfig(Checked):
    """Options of dynamic frame convolution (DFC).

    Attributes:
        pooling: `dfc`: dynamic frame convolution; `max`, `avg`: pooling of the same frames; `linear`: a linear map of each state.
        window: Number ω_f of states per frame.
        hops: Hop h_f of each layer: number of states from the start of one frame to the start of the next.
        middle: Number of channels inside the block that computes the kernels.
        readout: Utterance vector: the concatenated frames (`flat`), or their `mean`.
    """

    where = "pipeline.dfc"

    pooling: Pooling = "dfc"
    window: Size = 3
    hops: Sizes = field(default_factory=lambda: [2, 3])
    middle: Size = 64
    readout: Literal["mean", "flat"] = "mean"

    def least(self) -> int:
        """Return how many states the longest sequence must have at least, so that every layer has a frame."""
        length = 1
        for hop in reversed(self.hops):
            length = (length - 1) * hop + self.window
        return length


@dataclass(frozen=True, kw_only=True)
class MFDRConfig(InConversation):
    """Options of MFDR.

    Attributes:
        words: Maximum number L of words per utterance; further words are cut off.
        frames: Maximum number T of frames per utterance, after `stride`; further frames are cut off.
        stride: Number of neighbouring frames that are averaged to one (MFCCs of a waveform have 100 frames per second).
        width: Width of words, frames and z.
        dropout: Dropout after SAWA, after the recurrence, and in the classifier.
        hidden: Width of the classifier's hidden layer.
        sawa: Options of the attention from words to audio frames.
        gcpu: Options of the recurrent unit over the words.
        dfc: Options of the pooling of the recurrent states.
    """

    words: int = 50
    frames: Size = 255
    stride: Size = 1
    width: Size = 256
    dropout: Share = 0.3
    hidden: Size = 128
    sawa: SawaConfig = field(default_factory=SawaConfig)
    gcpu: GcpuConfig = field(default_factory=GcpuConfig)
    dfc: DfcConfig = field(default_factory=DfcConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        least = self.dfc.least()
        expect(self.where, self, words=(self.words >= least, f"{least} or more, so that each layer of dfc has a frame"))


class MFDR(UtteranceMethod):
    """Words that attend to audio windows, a recurrence with global context, dynamic frame convolution, and a graph stage."""

    Config = MFDRConfig
    reads = ("sequences",)
    unused = {"attend.key.bias": "it adds the same to all scores of a query, which cancels in the softmax"}
    paper = Paper(
        title="MFDR: Multiple-stage Fusion and Dynamically Refined Network for Multimodal Emotion Recognition",
        authors="Zhao et al.",
        venue="Interspeech",
        year=2024,
    )

    @classmethod
    def narrow(cls, schema: Schema) -> Schema:
        """Return the schema of the corpus without the features that MFDR does not read; it reads words, frames, or both."""
        read = {name: schema.sequences[name] for name in (TEXT, AUDIO) if name in schema.sequences}
        if not read:
            found = ", ".join(schema.modalities) or "none"
            raise ConfigError(f"modalities: expected sequences of {TEXT} or {AUDIO}, which MFDR reads, found {found}")
        return replace(schema, widths={}, sequences=read)

    def build(self, config: MFDRConfig, shapes: Shapes) -> None:
        """Build SAWA, GCPU, DFC, the graph stage, and the classifier."""
        width, sawa, gcpu, dfc = config.width, config.sawa, config.gcpu, config.dfc
        self.fronts = FrontEnds(shapes.items, width)
        self.attend = SlidingAdaptiveWindowAttention(width, window=sawa.window, hop=sawa.hop, adaptive=sawa.adaptive)
        self.norm = nn.LayerNorm(width) if sawa.residual else None
        self.perceive = ContextPerception(width, gcpu.width, cell=gcpu.cell, context=gcpu.context, heads=gcpu.heads, dropout=config.dropout)
        self.refine = FramePooling(config.words, gcpu.width, kind=dfc.pooling, window=dfc.window, hops=dfc.hops, middle=dfc.middle)
        self.dropout = Dropout(config.dropout)
        self.vector_width = gcpu.width * (self.refine.count if dfc.readout == "flat" else 1)
        self.conversation = self.around(self.vector_width)
        self.classify = Classifier(self.conversation.width, shapes.outputs, hidden=config.hidden, dropout=config.dropout)

    def cut(self, batch: Batch) -> list[str]:
        """Return a message for each limit (words, frames) that is exceeded; it states how many utterances are shortened."""
        config, found = self.config, []
        for name, lengths in self.fronts.count(batch).items():
            what, most, stride = ("words", config.words, 1) if name == TEXT else ("frames", config.frames, config.stride)
            if count := int((lengths // stride > most).sum()):
                found.append(f"{count} of {batch.utterances} utterances have more than {most} {what}, the limit of pipeline.{what}")
        return found

    def read(self, padded: Mapping[str, Padded]) -> tuple[Padded, Padded]:
        """Return words and frames with their masks.

        In an utterance without words, mean frames replace the words; in an utterance without frames, the words replace the frames.

        Args:
            padded: Modality → its values and mask, only for modalities of the corpus.
        """
        config, window = self.config, self.config.sawa.window
        found: dict[str, Padded] = {name: self.fronts[name](*padded[name]) for name in padded}
        if AUDIO not in found:
            words = _first(found[TEXT], config.words)
            return words, words
        frames = _first(windows_of(*found[AUDIO], config.stride, config.stride), config.frames)
        longest = frames[0].shape[1]
        words = _first(windows_of(*frames, window or longest, config.sawa.hop if window else longest), config.words)
        if TEXT in found:
            words = _or_else(_first(found[TEXT], config.words), words)
        return words, _or_else(frames, words)

    def combine(self, padded: Mapping[str, Padded]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Compute z of `n` utterances, `(n, L, width)`, its mask `(n, L)`, the weights `(n, L, T)`, and the mask of attended frames."""
        (words, mask), (frames, real) = self.read(padded)
        mixed, weights, seen = self.attend(words, mask, frames, real)  # Algorithm 1
        return mixed if self.norm is None else self.norm(words + self.dropout(mixed)), mask, weights, seen

    def vectors(self, sequences: Mapping[str, Ragged]) -> Tensor:
        """Compute the vectors of `N` utterances, `(N, vector_width)`; the vector of an utterance without words and frames is zero."""
        return encode_together(self.vector, sequences, self.vector_width, TOKENS)

    def vector(self, padded: Mapping[str, Padded]) -> Tensor:
        """Compute the vectors of `n` utterances that have words or frames, `(n, vector_width)`."""
        combined, mask, _, _ = self.combine(padded)
        hidden = self.dropout(self.perceive(combined, mask))  # Eqs. (1)-(6)
        frames, real = self.refine(hidden, mask)  # Eqs. (7), (8)
        if self.config.dfc.readout == "mean":
            return masked_mean(frames, real)
        return F.pad(frames, (0, 0, 0, self.refine.count - frames.shape[1])).flatten(1)

    def encode(self, given: Given) -> Tensor:
        """Compute the states of `N` utterances after the graph stage, `(N, conversation.width)`."""
        sequences = self.fronts.prepared(given.batch).sequences
        vectors = self.vectors({name: sequences[name] for name in given.sequences})
        return self.conversation(vectors, given.here(given.sequences).any(1), given)

    @torch.no_grad()
    def windows(self, dialogue: Dialogue, turn: int) -> HeteroData:
        """Return the bipartite graph of an utterance's words and frames, weighted by attention (`erc_graph.graphs.word_windows`).

        Args:
            dialogue: The conversation.
            turn: Index of the utterance, from 0.

        Raises:
            ConfigError: the utterance does not exist, or has neither words nor frames.
        """
        from erc_graph.graphs.word_windows import window_graph

        batch = self.schema.batch(dialogue.corpus).to(self.device)
        if not 0 <= turn < len(dialogue) or not any(batch.sequences[name].present[turn] for name in self.fronts):
            raise ConfigError(f"turn: expected an utterance from 0 to {len(dialogue) - 1} with {' or '.join(self.fronts)}, found {turn}")
        with evaluating(self):
            _, _, weights, seen = self.combine({name: batch.sequences[name].take([turn]).pad() for name in self.fronts})
        return window_graph(weights[0], seen[0], dialogue.texts[turn].split() if dialogue.texts else ())

    @torch.no_grad()
    def heat(self, batch: Batch, windows: int = 10) -> Tensor:
        """Compute the weights of the paper's Fig. 3: for each of the first windows, the mean weight of a frame over the window's words.

        Args:
            batch: Utterances with frames.
            windows: Number of windows.

        Returns:
            Mean weights, `(windows, frames)`, of all frames that these windows can contain after they have grown.
        """
        window, hop = self.config.sawa.window or 10, self.config.sawa.hop
        reach = (windows - 1) * hop + 2 * window
        total, count = torch.zeros(windows, reach, device=self.device), torch.zeros(windows, 1, device=self.device)
        with evaluating(self):
            batch = self.fronts.prepared(batch)
            sequences = {name: batch.sequences[name] for name in self.fronts}
            for rows in chunked(torch.stack([value.lengths for value in sequences.values()]).sum(0), TOKENS):
                (words, mask), (frames, real) = self.read({name: value.take(rows).pad() for name, value in sequences.items()})
                weights = self.attend.weights(words, mask, frames, real)[0]
                index = window_start(mask.sum(1), real.sum(1), mask.shape[1], window, hop) // hop
                chosen = mask & (index < windows)
                weights = F.pad(weights, (0, max(0, reach - weights.shape[-1])))[..., :reach]
                total.index_add_(0, index[chosen], weights[chosen])
                count.index_add_(0, index[chosen], count.new_ones(int(chosen.sum()), 1))
        return total / count.clamp(min=1)


def _first(padded: Padded, most: int) -> Padded:
    """Return the first items of every sequence, at most `most`, and their mask."""
    return padded[0][:, :most], padded[1][:, :most]


def _or_else(own: Padded, other: Padded) -> Padded:
    """Return the sequences `own`; an empty sequence is replaced by the sequence of `other`."""
    longest = max(own[1].shape[1], other[1].shape[1])
    lacks = ~own[1].any(1, keepdim=True)
    (rows, mask), (stand, real) = (
        (F.pad(v, (0, 0, 0, longest - v.shape[1])), F.pad(m, (0, longest - m.shape[1]))) for v, m in (own, other)
    )
    return torch.where(lacks[..., None], stand, rows), torch.where(lacks, real, mask)
