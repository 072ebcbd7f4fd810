r"""WavFusion: Towards wav2vec 2.0 Multimodal Speech Emotion Recognition (Li, Luo and Xia, MMM 2025).

The method reads one utterance at a time and fuses audio, words and face frames to one vector.

.. math::
    e^v &= \Phi_{visual}(S^v) \tag{1} \\
    X^{v1} &= F_{SA}(F_{GRU}(e^v)) \tag{2} \\
    X^{v2} &= F_{LVC}(e^v) \tag{3} \\
    X^v &= X^{v1} \oplus X^{v2} \tag{4} \\
    e^t &= \Phi_{text}(S^t) \tag{5} \\
    X^t &= F_{SA}(F_{GRU}(e^t)) \tag{6} \\
    X^a &= F_{ST}(S^a) \tag{7} \\
    X^{F1} &= \mathrm{CM}_{A-T}(X^a, X^t) \tag{8} \\
    X^{F2} &= \mathrm{CM}_{A-V}(X^a, X^v) \tag{9} \\
    P &= \mathrm{sigmoid}(\mathrm{FC}(X^{F1} \oplus X^{F2})) \tag{10} \\
    X^F &= P \odot X^{F1} + (1 - P) \odot X^{F2} \tag{11} \\
    X^m_{com} &= \mathrm{SD}(X^m), \quad m \in (a, t, v) \tag{12} \\
    L_{mar} &= \frac{1}{|M|} \sum_{(i,j,k) \in M} \max(0, \alpha - \cos(x_i, x_j) + \cos(x_i, x_k)) \tag{13} \\
    L_{task} &= -\frac{1}{N} \sum_j y_j \log \hat y_j \tag{14} \\
    L &= L_{task} + \lambda L_{mar} \tag{15}

A graph stage over the conversation follows (`erc_graph.methods.conversation`); its input is X^F. With the option `graph = "none"`, there is
no graph stage, as in the paper.

| paper | here | shape |
|---|---|---|
| Φ_visual, Φ_text | features of the corpus; `WavFusion.front` scales and projects them | (frames, width) |
| F_SA(F_GRU(·)) | `FrameEncoder.agru` | (frames, width) |
| F_LVC | `FrameEncoder.lvc` | (frames, width) |
| F_ST, shallow layers | `WavFusion.shallow` | (frames, wav2vec.width) |
| CM_A-T, CM_A-V, P | `GatedCrossAttention` in `WavFusion.deep` | (frames, wav2vec.width) |
| deep layers | `WavFusion.deep`, `deep` of them | (frames, wav2vec.width) |
| SD | `WavFusion.shared` | (samples, width) |
| λ, α | `margin_weight`, `margin` | |

Differences from the paper:

- Eqs. (1), (5): in the paper, EfficientNet and RoBERTa are frozen. Here the corpus contains the outputs of such encoders
  (`erc-graph features`), which are scaled and projected to one width. If the corpus contains images (bytes), a small convolutional network
  encodes them and is trained.
- Eqs. (2), (6): the self-attention has a residual connection and a layer norm, as in a Transformer layer.
- Eq. (3): a layer norm replaces batch norm, and a mean replaces the sum over time (`erc_graph.encoders.visual_centre`).
- Eq. (7): wav2vec 2.0 base is loaded from a folder (`wav2vec.folder`). The deep layers replace its last `deep` layers. The feed-forward
  networks and norms of the deep layers start with the replaced weights. Without a folder, the wav2vec 2.0 model is small, has random
  weights, and is trained as a whole (see `frozen`). A small corpus has too little audio for this; with the option `sound = "mfcc"`, the
  deep layers read cepstral coefficients instead. If the corpus has audio frames, such as those of WavLM, X^a is their scaled projection.
- Eqs. (8), (9): queries come from audio, keys and values from the other modality. In each deep layer, attention to every other modality
  replaces self-attention. The residual connection of the layer still adds the audio states.
- Eq. (10): the gate is a softmax over the other modalities; for two, it equals the printed sigmoid. A missing modality has the gate zero.
  If an utterance has no other modality, the attention output is zero, and only the audio remains.
- The paper does not connect (11) to the classifier. Here the classifier reads the mean over the frames.
- If an utterance or the corpus has no audio, a single learned frame gives the queries. With a single modality (Table 3), there is no gate
  and no margin loss. Audio alone is read by unchanged wav2vec 2.0 layers; words or faces alone are read by the encoder of (2) to (6).
- The option `deep = 0` gives the variant "concat" of Table 6: the means over the frames of all modalities are concatenated.
- Eq. (12): SD is a linear map that all modalities share, so it needs inputs of one width. The mean over the frames of each modality
  therefore first passes a layer norm and a projection. SD and the projection have no bias. With a bias, training of (13) moves all samples
  to the same point, where the gradient of (13) vanishes.
- Eq. (13): the printed bracket closes too early, and α is not given. Each labelled utterance of the batch gives one sample for each
  modality that it has. A score task has no classes, and therefore no margin loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from math import prod
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from erc_graph.data.batch import Batch
from erc_graph.data.ragged import SAMPLING_RATE, Ragged
from erc_graph.encoders.agru import AGRU
from erc_graph.encoders.cross_attention import CrossAttention
from erc_graph.encoders.frontend import FrontEnds
from erc_graph.encoders.gated_attention import GatedCrossAttention
from erc_graph.encoders.sequences import encode_sequences, encode_together, map_sequences, masked_mean
from erc_graph.encoders.visual_centre import LearnableVisualCentre
from erc_graph.encoders.wav2vec import Layer, Wav2vec, Wav2vecConfig, read_wav2vec
from erc_graph.errors import ConfigError
from erc_graph.methods.conversation import InConversation, UtteranceMethod
from erc_graph.methods.inputs import Given, Shapes
from erc_graph.methods.paper import Paper
from erc_graph.methods.parts import Classifier
from erc_graph.methods.penalties import margin_loss
from erc_graph.methods.ranges import Count, Share, Size, Weight
from erc_graph.methods.stage import Prediction, evaluating

FRAMES = 50  # per second of sound, what seconds count as in words and pictures
SECONDS = 60  # of sound in one forward pass of the encoders, padding included
NUMBERS = 1 << 24  # most of a chunk of pictures
SHALLOW = "audio.shallow"  # among the sequences of a batch; no modality has a dot in its name


@dataclass(frozen=True, kw_only=True)
class WavFusionConfig(InConversation):
    """Options of WavFusion.

    Attributes:
        deep: Number of last layers of wav2vec 2.0 that attend to the other modalities. With 0, all modalities are only concatenated.
        lvc: Modalities with a learnable visual centre (LVC).
        width: Width of the states of words and faces, and of SD.
        heads: Number of attention heads, except in the unchanged layers of wav2vec 2.0.
        codes: Number of vectors in LVC's codebook.
        margin_weight: Weight λ of the margin loss.
        margin: Margin α.
        hidden: Width of the hidden layer of the classifier.
        dropout: Dropout in encoders, deep layers and classifier.
        frozen: Whether the shallow layers are frozen; default: frozen if they are pretrained. The output of frozen layers is computed once
            and stored; this needs 150 kB per second of audio with wav2vec 2.0 base.
        checkpointing: Recompute the states of the layers in the backward pass, which needs less memory and more time.
        sound: Audio frames that are computed from a waveform: `wav2vec`, or `mfcc` (cepstral coefficients, scaled and projected) if no
            pretrained model is available. The deep layers are those of wav2vec 2.0 in both cases.
        wav2vec: Options of the audio encoder.
    """

    deep: Count = 3
    lvc: list[str] = field(default_factory=lambda: ["visual"])
    width: Size = 64
    heads: Size = 4
    codes: Size = 16
    margin_weight: Weight = 1.0
    margin: Weight = 0.2
    hidden: Size = 64
    dropout: Share = 0.2
    frozen: bool | None = None
    checkpointing: bool = False
    sound: Literal["wav2vec", "mfcc"] = "wav2vec"
    wav2vec: Wav2vecConfig = field(default_factory=Wav2vecConfig)


class FrameEncoder(nn.Module):
    """Encoder of words or faces of an utterance: A-GRU (GRU and self-attention), concatenated with the output of LVC if configured."""

    def __init__(self, config: WavFusionConfig, *, lvc: bool) -> None:
        super().__init__()
        self.agru = AGRU(config.width, config.width, heads=config.heads, dropout=config.dropout)
        self.lvc = LearnableVisualCentre(config.width, config.width, codes=config.codes) if lvc else None

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Map frames `(n, L, width)` and their mask `(n, L)` to states `(n, L, width)`; with LVC, twice the width."""
        states = self.agru(frames, mask)  # Eqs. (2), (6)
        return states if self.lvc is None else torch.cat([states, self.lvc(frames, mask)], -1)  # Eqs. (3), (4)


class WavFusion(UtteranceMethod):
    """Audio that attends to words and faces in the deep layers of wav2vec 2.0, then a graph stage; any modality may be missing."""

    Config = WavFusionConfig
    reads = ("sequences",)
    unused = {"*.key.bias": "it adds the same to all scores of a query, which cancels in the softmax"}
    couples_batch = "the margin loss, Eq. (13), which compares all labelled utterances"
    paper = Paper(
        title="WavFusion: Towards wav2vec 2.0 Multimodal Speech Emotion Recognition",
        authors="Li, Luo and Xia",
        venue="MMM",
        year=2025,
        url="https://arxiv.org/abs/2412.05558",
    )

    def build(self, config: WavFusionConfig, shapes: Shapes) -> None:
        """Build the shallow layers, encoders of words and faces, deep layers, the graph stage, and the classifier."""
        sound, weights, heard = replace(config.wav2vec, folder=""), None, shapes.items.get("audio")
        if config.wav2vec.folder and heard is not None:
            sound, weights = read_wav2vec(config.wav2vec.folder)
        if config.deep > sound.layers:
            raise ConfigError(f"pipeline.deep: expected at most {sound.layers}, the number of layers of wav2vec 2.0, found {config.deep}")
        frozen = weights is not None if config.frozen is None else config.frozen
        # What is saved must be built again without the folder.
        self.config = config = replace(config, wav2vec=sound, frozen=frozen if weights else config.frozen)
        self.others = tuple(name for name in shapes.modalities if name != "audio")
        self.front = FrontEnds({name: shapes.items[name] for name in self.others}, config.width)
        self.encoders = nn.ModuleDict({name: FrameEncoder(config, lvc=name in config.lvc) for name in self.others})
        widths = {name: config.width * (2 if name in config.lvc else 1) for name in self.others}
        self.silence = nn.Parameter(0.02 * torch.randn(sound.width))
        self.shallow: Wav2vec | FrontEnds | None = None
        if heard == () and config.sound == "wav2vec":
            self.shallow = Wav2vec(sound, sound.layers - config.deep)
            self.shallow.requires_grad_(not frozen)
        elif heard is not None:
            self.shallow = FrontEnds({"audio": heard}, sound.width)
        asked = config.deep if heard is not None or len(widths) > 1 else 0  # words or faces alone: nobody asks them
        self.deep = nn.ModuleList(Layer(sound, self._attention(widths), config.dropout) for _ in range(asked))
        self.final = nn.LayerNorm(sound.width) if sound.sizes.norm_first else nn.Identity()
        if weights is not None:
            self._take(weights)
        parts = {**({} if self.shallow is None else {"audio": sound.width}), **widths}
        output = sound.width if self.deep else sum(parts.values())
        self.project = nn.ModuleDict()
        if len(parts) > 1 and config.margin_weight and self.task.kind == "classification":
            self.project = nn.ModuleDict(
                {name: nn.Sequential(nn.LayerNorm(width), nn.Linear(width, config.width, bias=False)) for name, width in parts.items()}
            )
            self.shared = nn.Linear(config.width, config.width, bias=False)
        self.conversation = self.around(output)
        self.classify = Classifier(self.conversation.width, shapes.outputs, hidden=config.hidden, dropout=config.dropout)

    def _attention(self, widths: Mapping[str, int]) -> nn.Module:
        """Return the attention of a deep layer: to the other modalities or, without other modalities, self-attention."""
        sound, dropout = self.config.wav2vec, self.config.dropout
        if widths:
            return GatedCrossAttention(sound.width, widths, heads=self.config.heads, dropout=dropout)
        return CrossAttention(sound.width, sound.width, sound.width, heads=sound.heads, dropout=dropout)

    def _take(self, weights: Mapping[str, Tensor]) -> None:
        """Load the weights of the pretrained model."""
        if isinstance(self.shallow, Wav2vec):
            self.shallow.take(weights)
        for index, layer in enumerate(self.deep, self.config.wav2vec.layers - len(self.deep)):
            mark = f"layers.{index}."
            cast(Layer, layer).take({name.removeprefix(mark): value for name, value in weights.items() if name.startswith(mark)})
        if isinstance(self.final, nn.LayerNorm):
            self.final.load_state_dict({end: weights[f"final.{end}"] for end in ("weight", "bias")})

    def _tokens(self, item: tuple[int, ...]) -> int:
        """Return the number of items per chunk: samples, words, frames or images."""
        return max(1, min(SECONDS * (FRAMES if item else SAMPLING_RATE), NUMBERS // prod(item)))

    def frames(self, batch: Batch) -> Ragged:
        """Compute the audio frames X^a of every utterance, `(frames, wav2vec.width)`; an utterance without audio has no frames."""
        if SHALLOW in batch.sequences:
            return batch.sequences[SHALLOW]
        if self.shallow is None:
            nothing = self.silence.new_zeros(0, self.config.wav2vec.width)
            return Ragged(nothing, torch.zeros(batch.utterances + 1, dtype=torch.long))
        waves, encode = batch.sequences["audio"], self.shallow if isinstance(self.shallow, Wav2vec) else self.shallow["audio"]
        width, tokens = self.config.wav2vec.width, self._tokens(waves.item)
        return map_sequences(partial(self._checkpointed, encode), waves, width, tokens)  # Eq. (7)

    @torch.no_grad()
    def keep(self, index: int, batch: Batch) -> Batch:
        """Store the output of frozen layers with the batch, so that it is computed only once."""
        if not isinstance(self.shallow, Wav2vec) or any(p.requires_grad for p in self.shallow.parameters()):
            return batch
        if self.inputs_config.modality_dropout:  # other recordings are hidden in every epoch
            return batch
        return replace(batch, sequences={**batch.sequences, SHALLOW: self.frames(batch)})

    def states(self, batch: Batch) -> dict[str, Ragged]:
        """Compute X^t and X^v, Eqs. (6) and (4): modality → states of the words or face frames of every utterance."""
        found = {}
        for name in self.others:

            def function(padded: Tensor, mask: Tensor, name: str = name) -> tuple[Tensor, Tensor]:
                frames, mask = self.front[name](padded, mask)  # Eqs. (1), (5)
                return self.encoders[name](frames, mask), mask

            width = self.config.width * (2 if name in self.config.lvc else 1)
            found[name] = map_sequences(function, batch.sequences[name], width, self._tokens(self.schema.sequences[name]))
        return found

    def fuse(self, sound: Ragged, others: Mapping[str, Ragged]) -> tuple[Tensor, Tensor]:
        """Apply the deep layers, and average their output over the frames.

        Args:
            sound: Audio frames X^a.
            others: Modality → frames X^t or X^v.

        Returns:
            Vectors of `N` utterances, `(N, wav2vec.width)`, and the mean gate values of words and faces, `(N, others)`.
        """

        def function(padded: Mapping[str, tuple[Tensor, Tensor]]) -> Tensor:
            (states, mask), heard = padded["audio"], {name: padded[name] for name in others}
            trust = states.new_zeros(len(states), len(others))
            for layer in self.deep:
                states, shares = self._checkpointed(self._layer, layer, states, mask, heard)
                trust = trust + masked_mean(shares, mask) / len(self.deep)
            return torch.cat([masked_mean(self.final(states), mask), trust], -1)

        width = self.config.wav2vec.width
        found = encode_together(function, {"audio": self._filled(sound), **others}, width + len(others), self._tokens((width,)))
        return found[:, :width], found[:, width:]

    @staticmethod
    def _layer(layer: Layer, states: Tensor, mask: Tensor, others: Mapping[str, tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Apply one deep layer: return its states `(n, L, width)`, and the gate values of the other modalities `(n, L, others)`."""
        shares = states.new_zeros(*states.shape[:2], len(others))

        def ask(queries: Tensor) -> Tensor:
            nonlocal shares
            if not others:
                return layer.attention(queries, queries, mask)
            heard, gate = layer.attention(queries, others)  # Eqs. (8)-(11)
            shares = gate.detach().mean(-1)
            return heard

        return layer(states, ask), shares

    def _checkpointed(self, function, *inputs):  # type: ignore[no-untyped-def]
        """Call a function; with `checkpointing`, store only its inputs for the backward pass."""
        if self.config.checkpointing and self.training and torch.is_grad_enabled():
            return checkpoint(function, *inputs, use_reentrant=False)
        return function(*inputs)

    def _filled(self, sound: Ragged) -> Ragged:
        """Return the audio frames, with the learned frame for each utterance without audio."""
        lengths = sound.lengths.clamp(min=1)
        ptr = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        absent = (sound.lengths == 0).nonzero().squeeze(1)
        everything = torch.ones(int(ptr[-1]), dtype=torch.bool)
        everything[ptr[absent]] = False
        place = everything.nonzero().squeeze(1).to(sound.device)
        values = self.silence.to(sound.values.dtype).expand(len(everything), -1).index_copy(0, place, sound.values)
        return Ragged(values, ptr)

    def vectors(self, batch: Batch) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Compute X^F `(N, width)`, the mask of utterances with any modality, `(N,)`, and, if needed, the mean frame of each modality."""
        sound, others = self.frames(batch), self.states(batch)
        every = others if self.shallow is None else {"audio": sound, **others}
        present = torch.stack([value.present for value in every.values()]).any(0)
        means = {}
        if not self.deep or (self.training and self.project):
            tokens = self._tokens((self.config.width,))
            means = {name: encode_sequences(masked_mean, value, value.item[0], tokens) for name, value in every.items()}
        if not self.deep:
            return torch.cat(list(means.values()), -1), present, means
        return self.fuse(sound, others)[0], present, means

    def discrepancy(self, means: Mapping[str, Tensor], batch: Batch) -> Tensor | float:
        """Compute the weighted margin loss λ L_mar; each labelled utterance gives one sample for each of its modalities."""
        if not (self.training and self.project):
            return 0.0
        counts = batch.judged & (batch.target >= 0)
        here = {name: counts & batch.sequences[name].present for name in means}
        common = [self.shared(self.project[name](means[name][rows])) for name, rows in here.items()]  # Eq. (12)
        modality = torch.cat([torch.full((len(rows),), i, device=batch.device) for i, rows in enumerate(common)])
        target = torch.cat([batch.target[rows] for rows in here.values()])
        return self.config.margin_weight * margin_loss(torch.cat(common), modality, target, self.config.margin)  # Eq. (13)

    def answer(self, given: Given) -> Prediction:
        """Compute the scores of every utterance `(N, C)` and the margin loss; the training loop adds cross entropy."""
        fused, present, means = self.vectors(given.batch)
        states = self.conversation(fused, present, given)
        penalty = self.discrepancy(means, given.batch)
        return Prediction(scores=self.classify(states), penalty=penalty, states=states)  # Eqs. (14), (15)

    @torch.no_grad()
    def trust(self, batch: Batch) -> dict[str, Tensor]:
        """Return the gate values of words and faces, averaged over channels, frames and deep layers.

        Without words, without faces, or with `deep = 0`, there is no gate, and the result is empty.
        """
        if len(self.others) < 2 or not self.deep:
            return {}
        with evaluating(self):
            shares = self.fuse(self.frames(batch), self.states(batch))[1]
        return dict(zip(self.others, shares.unbind(1), strict=True))
