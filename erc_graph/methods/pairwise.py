r"""Fusing Pairwise Modalities for Emotion Recognition in Conversations (Fan et al., Information Fusion 106, 2024).

Stage 1, pairwise modalities fusion (PMF), once per pair of modalities (m1, m2):

.. math::
    l^m &= \mathrm{BiLSTM}_m(u^m) \tag{1} \\
    n^m_i &= w_{ps} s_i + l^m_i \tag{2} \\
    W^a_{ij} &= 1 - \arccos(\mathrm{sim}(n^m_i, n^m_j)) / \pi \tag{3} \\
    W^e_i &= \gamma (1 - \arccos(\mathrm{sim}(n^{m1}_i, n^{m2}_i)) / \pi) \tag{4} \\
    E^{(m1 m2)} &= \mathrm{GCN}_p(V_p, W_p) \tag{5} \\
    L_{pd} &= \|E^{(m1 m2)}\|_1 \tag{6} \\
    L_{PMF} &= L_{pc} + \lambda_{p1} L_{pd} + \lambda_{p2} \|\theta_p\|_2 \tag{7}

Stage 2, multiple features fusion (MFF) and multimodal attention learning (MAL):

.. math::
    h^{(p)}_t &= \mathrm{GRU}_1(h^{(p)}_{t-1}, E^{(p)}_t) \tag{8} \\
    n^{(p)}_t &= w_{ms} s_t + h^{(p)}_t \tag{9} \\
    E^{(VAT)} &= \mathrm{GCN}_f(V_f, W_f) \tag{10} \\
    h^{(Bt)}_t &= \mathrm{GRU}_2(h^{(Bt)}_{t-1}, u^{(Bt)}_t) \tag{11} \\
    E^{(MF)} &= [E^{(VAT)}, E^{(Bt)}] \tag{12} \\
    C_1 &= \mathrm{ATT}_1(E^{(MF)}), \quad C_i = \mathrm{ATT}_i([C_{i-1}, h^{(VA)}]) \tag{13} \\
    L_{md} &= \|E^{(MM)}\|_1, \quad E^{(MM)} = [C_l, h^{(Bt)}] \tag{14} \\
    L_{MAL} &= L_{mc} + \lambda_{m1} L_{md} + \lambda_{m2} \|\theta_m\|_2 \tag{15}

| paper | here | shape |
|---|---|---|
| u^m | `Inputs` of the pair | (utterances, features of m) |
| l^m | `PairFusion.encode[m]` | (utterances, pmf.width) |
| w_ps s, w_ms s | `PairFusion.speaker`, `MultipleFeaturesFusion.speaker` | (utterances, width) |
| GCN_p, GCN_f | `PairFusion.conv`, `MultipleFeaturesFusion.conv` | (utterances, streams, 2 × width) |
| W^a, W^e, γ | recipe `pairwise`: `context`, `cross` and its scale | edges |
| E^(m1m2) | output of `PairFusion` | (utterances, streams × 2 × pmf.width) |
| h^(p), h^(Bt) | `MultipleFeaturesFusion.encode`, `.encode_context` | (utterances, mff.width) |
| E^(Bt) | `MultipleFeaturesFusion.transform` | (utterances, mff.width) |
| ATT_i, l | `MultimodalAttention.attention`, `mal.layers` | (utterances, mal.width) |
| λ_p1, λ_m1 | `pmf.density`, `mal.density` | |
| λ_p2, λ_m2 | `pmf.weight_decay`, `mal.weight_decay` | |

Widths are those with `conv.residual`, the default: the states that go into the graph stand beside those that come out.

Differences from the paper:

- (2), (9): the speaker embedding is learned, of the speaker's order in the dialogue, and added. The text also speaks of vectors of a
  recognition model, concatenated: given vectors (a feature set `speaker`, with `given_speakers`) are an option, added like the learned.
- (3) prints m1 and m2 for an intra-modal edge, a slip: both nodes are of one modality.
- (5), (10): the operator is MMGCN's deep spectral GCN (GCNII); its depth is not given and is an option. As there, what went in stands
  beside what comes out (`conv.residual`), so that (6) also weighs the states that went in.
- (6), (14): the L1 norm is a mean over entries by default, so that λ does not depend on batch and width. The paper's λ belongs to a sum:
  under the mean it is weaker by the number of entries, some hundred thousand, and does next to nothing. `density_reduction = "sum"` is the
  printed norm, per batch.
- (7), (15): the L2 term is the optimiser's weight decay: coupled (Adam) by default, where `weight_decay = w` adds `w θ` to the gradient, as
  `(w / 2) ‖θ‖²` would; decoupled (AdamW) is an option of the training. Gradients are clipped before that, which the paper does not say.
- (3), (4): arccos has no gradient at ±1; cosines are multiplied by 1 − 10⁻⁵ first and the outcome scaled back to [0, 1]
  (`erc_graph.graphs.weights`), which moves a weight by 0.0015 at most.
- (8) prints VA twice, the third line is AT. "GRU1" is shared by the letter; separate weights are the default, shared an option.
- (8), (11): GRUs read forward by the letter; reading in both directions is an option (`mff.bidirectional`).
- Between (11) and (12): the Transformer encoder has no positions (the GRU before it knows the order) and a feed-forward layer of twice the
  width, neither of which the paper gives.
- (13): l is not given. With one layer, or with attention off, h^(VA) is put behind it. `mal.residual` adds a path around each ATT, which a
  plain ATT lacks: without it a turn's own state reaches the classifier only as far as the turn attends to itself.
- "Without MAL" (Table 2) is taken as: no attention and neither skip. On IEMOCAP the paper's rows 15 and 41 are the same figures, as this
  reading wants; on MELD row 15 has the figures of row 42, which has attention. The paper contradicts itself there.
- Fewer modalities: pairs of what is there. One modality: its own graph is stage 1. h^(VA) is the pair without text; where there is
  none, the only pair. Without PMF a pair's stream is its two BiLSTM states side by side, without graph and loss, trained in stage 2.
- "Bt" is a second text feature; where the corpus has one, both roles use it.
- `stages = "joint"` trains everything in one loop with the PMF classifiers as auxiliary losses. With two stages the epoch of each stage is
  chosen on the development split, by the stage's own classifier.
- A missing modality: its node has no edges and no vote in E. A learned vector stands in the sequences that LSTM and GRU read; their states
  of that turn, which know its neighbours, still go through the skip connections.
- `causal`, for labelling while people speak: (1) reads forward alone, ATT and the Transformer encoder attend to earlier turns alone, as far
  back as the recipe's edges reach, and the recipe must not have an edge from a later turn. The paper reads whole conversations.
- `prior`, `prior_around`, `text_layers`, `swap_noise`, `speaker_relative`, `pmf.project` (a linear layer in front of each BiLSTM) and
  `mff.project` (one in front of GRU2) are not in the paper.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Literal, cast

import torch
from torch import Tensor, nn

from erc_graph.conv.angular.angular import AngularConv, AngularConvConfig
from erc_graph.data.batch import Batch
from erc_graph.data.corpus import Dialogue
from erc_graph.encoders.attention import SelfAttention, TransformerEncoder
from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.inputs import Inputs, swapped
from erc_graph.encoders.pooled import pooled, pooled_width
from erc_graph.encoders.recurrent import Recurrent, side_by_side
from erc_graph.encoders.speaker import SpeakerEmbedding
from erc_graph.encoders.text_layers import TextLayers, TextLayersConfig, made_by
from erc_graph.errors import ConfigError, expect
from erc_graph.graphs.recipe import GraphRecipe, list_recipes, load_recipe
from erc_graph.methods.base import Classifier, HeteroData, Pipeline, Schema, in_parts
from erc_graph.methods.penalties import Reduction, density
from erc_graph.methods.prior import prior_names
from erc_graph.methods.stage import Prediction, Stage, evaluating

Check = tuple[bool, str]


def _count(value: int) -> Check:
    return value >= 1, "1 or more"


def _share(value: float) -> Check:
    return 0 <= value < 1, "a number in [0, 1)"


def _weight(value: float) -> Check:
    return value >= 0, "a number of 0 or more"


def _even(width: int) -> dict[str, Check]:
    return {"width": (width >= 2 and width % 2 == 0, "an even number of 2 or more (half of it for each direction)")}


def _training(config: PmfConfig | MalConfig) -> dict[str, Check]:
    return {
        "learning_rate": (config.learning_rate is None or config.learning_rate > 0, "a number above 0"),
        "weight_decay": (config.weight_decay is None or config.weight_decay >= 0, "a number of 0 or more"),
        "epochs": (config.epochs is None or config.epochs >= 1, "1 or more"),
    }


@dataclass(frozen=True, kw_only=True)
class PmfConfig:
    """Pairwise modalities fusion (stage 1).

    Attributes:
        enabled: Off: a pair's stream is its two BiLSTM states, no graph and no loss of its own.
        width: Width of node states.
        dropout: In encoders, graph and classifier.
        project: A linear layer with ReLU in front of each BiLSTM (not in the paper).
        density: λ_p1, weight of the density loss.
        learning_rate: Of stage 1; unset: the training's.
        weight_decay: λ_p2; unset: the training's.
        epochs: Of stage 1; unset: the training's.
    """

    enabled: bool = True
    width: int = 128
    dropout: float = 0.2
    project: bool = False
    density: float = 2e-5
    learning_rate: float | None = None
    weight_decay: float | None = None
    epochs: int | None = None

    def __post_init__(self) -> None:
        expect("pipeline.pmf", self, **_even(self.width), **_training(self), dropout=_share(self.dropout), density=_weight(self.density))


@dataclass(frozen=True, kw_only=True)
class MffConfig:
    """Multiple features fusion (stage 2).

    Attributes:
        width: Width of node states.
        dropout: In graph and Transformer encoder.
        shared_gru: One GRU1 for all pairs, by the letter of (8).
        bidirectional: GRU1 and GRU2 read in both directions.
        project: A linear layer with ReLU in front of GRU2 (not in the paper).
        gcn: The second graph; off: E^(VAT) is the GRU states side by side.
        speaker: Add the speaker embedding (s_t in Table 4).
        context_encoder: Use E^(Bt), the Transformer encoder's states.
        heads: Heads of the Transformer encoder.
        layers: Layers of the Transformer encoder.
    """

    width: int = 128
    dropout: float = 0.2
    shared_gru: bool = False
    bidirectional: bool = False
    project: bool = False
    gcn: bool = True
    speaker: bool = True
    context_encoder: bool = True
    heads: int = 1
    layers: int = 1

    def __post_init__(self) -> None:
        expect(
            "pipeline.mff", self, **_even(self.width), dropout=_share(self.dropout), heads=_count(self.heads), layers=_count(self.layers)
        )


@dataclass(frozen=True, kw_only=True)
class MalConfig:
    """Multimodal attention learning (stage 2).

    Attributes:
        attention: Use ATT; off: what goes in passes unchanged.
        layers: l, number of ATT layers.
        heads: Heads of each.
        width: Width of C_i.
        residual: Add a linear map of what goes into each ATT to what comes out (not in the paper).
        pair_skip: Concatenate h^(VA) in front of layers 2 to l.
        context_skip: Concatenate h^(Bt) behind the last layer.
        hidden: Width of the fully connected layer.
        dropout: In attention and classifier.
        density: λ_m1, weight of the density loss.
        learning_rate: Of stage 2; unset: the training's.
        weight_decay: λ_m2; unset: the training's.
        epochs: Of stage 2; unset: the training's.
    """

    attention: bool = True
    layers: int = 2
    heads: int = 4
    width: int = 128
    residual: bool = False
    pair_skip: bool = True
    context_skip: bool = True
    hidden: int = 128
    dropout: float = 0.2
    density: float = 2e-5
    learning_rate: float | None = None
    weight_decay: float | None = None
    epochs: int | None = None

    def __post_init__(self) -> None:
        expect(
            "pipeline.mal",
            self,
            **_training(self),
            layers=_count(self.layers),
            heads=_count(self.heads),
            width=_count(self.width),
            hidden=_count(self.hidden),
            dropout=_share(self.dropout),
            density=_weight(self.density),
        )


@dataclass(frozen=True, kw_only=True)
class PairwiseConfig:
    """The whole method.

    Attributes:
        graph: Recipe of both graphs: a name or a TOML file.
        causal: Nothing comes from later turns: recurrent nets read forward, attention looks back as far as the recipe, which must be
            causal too (`causal`, `causal_window`). Such a pipeline can listen live (`stream`).
        gamma: γ, scale of edges across streams; unset: the recipe's.
        stages: `two` (the paper) or `joint` (one loop, PMF classifiers as auxiliary losses).
        auxiliary: Weight of the PMF losses when joint.
        context_text: Feature set in the role of "Bt".
        prior: Feature set of class log-probabilities, or several joined by `+`, that is added to the scores
            (`erc_graph.methods.prior`), so that the conversation only corrects them (not in the paper).
        text_layers: Last layers of a text encoder that are trained with the rest, where the corpus has its token states as sequences
            (`erc_graph.encoders.text_layers`; not in the paper).
        prior_around: Add how frequent the classes are in the conversation as far as the prior sees, with a learned weight.
        prior_stream: The prior is also a modality of the graph; off: it is added, and nothing else.
        speakers: Distinct speaker embeddings.
        given_speakers: Take speaker vectors from the feature set `speaker`.
        swap_noise: Modality → share of training rows that carry another utterance's features (not in the paper); for features that were
            fitted to the training labels.
        speaker_relative: Modalities that are given twice: as they are, and relative to the speaker's mean and deviation in the dialogue
            (not in the paper).
        density_reduction: `mean` over entries or `sum`, the printed norm.
        conv: Graph convolution of both stages.
        pmf: Stage 1.
        mff: First half of stage 2.
        mal: Second half of stage 2.
    """

    graph: str = "pairwise"
    causal: bool = False
    gamma: float | None = None
    stages: Literal["two", "joint"] = "two"
    auxiliary: float = 0.3
    context_text: str = "text"
    prior: str | None = None
    prior_around: bool = False
    prior_stream: bool = False
    text_layers: TextLayersConfig = field(default_factory=TextLayersConfig)
    speakers: int = 8
    given_speakers: bool = False
    swap_noise: dict[str, float] = field(default_factory=dict)
    speaker_relative: list[str] = field(default_factory=list)
    density_reduction: Reduction = "mean"
    conv: AngularConvConfig = field(default_factory=AngularConvConfig)
    pmf: PmfConfig = field(default_factory=PmfConfig)
    mff: MffConfig = field(default_factory=MffConfig)
    mal: MalConfig = field(default_factory=MalConfig)

    def __post_init__(self) -> None:
        if self.graph == "none":
            raise ConfigError(f"pipeline.graph: expected a recipe ({', '.join(list_recipes())}), which pairwise needs, found 'none'")
        expect(
            "pipeline",
            self,
            gamma=(self.gamma is None or self.gamma > 0, "a number above 0"),
            auxiliary=_weight(self.auxiliary),
            causal=(
                not (self.causal and (self.mff.bidirectional or self.speaker_relative or self.prior_around)),
                "false where mff.bidirectional, speaker_relative or prior_around is set, which need later turns",
            ),
            prior_stream=(not self.prior_stream or self.prior is not None, "false without pipeline.prior, which it is about"),
            speakers=_count(self.speakers),
            stages=(
                self.stages == "joint" or not self.swap_noise,
                "'joint' with swap_noise (a first stage of its own would see clean features)",
            ),
            text_layers=(
                self.stages == "joint" or not self.pmf.enabled or not self.text_layers.layers,
                "none with two stages, the first of which would be trained on other states than the second",
            ),
            swap_noise=(all(0 <= share <= 1 for share in self.swap_noise.values()), "numbers from 0 to 1"),
        )


class PairFusion(nn.Module):
    """PMF of one pair of modalities, or of a single one."""

    def __init__(self, schema: Schema, modalities: tuple[str, ...], config: PairwiseConfig, recipe: GraphRecipe) -> None:
        super().__init__()
        pmf = config.pmf
        self.modalities, self.recipe, self.enabled = modalities, recipe, pmf.enabled
        relative = schema.known(config.speaker_relative, "pipeline.speaker_relative")
        self.inputs = Inputs({name: schema.widths[name] for name in modalities}, speaker_relative=relative)
        widths = self.inputs.output_widths
        self.dropout = Dropout(pmf.dropout)
        self.project = nn.ModuleDict(
            {name: nn.Sequential(nn.Linear(widths[name], pmf.width), nn.ReLU()) for name in modalities} if pmf.project else {}
        )
        widths = {name: pmf.width if pmf.project else widths[name] for name in modalities}
        both = not config.causal
        self.encode = nn.ModuleDict({name: Recurrent("lstm", widths[name], pmf.width, bidirectional=both) for name in modalities})
        self.output_width = pmf.width * len(modalities)
        if pmf.enabled:
            self.speaker = _speaker(schema, pmf.width, config)
            self.conv = AngularConv(pmf.width, config.conv, dropout=pmf.dropout)
            self.output_width = self.conv.output_width * len(modalities)
            self.classify = Classifier(self.output_width, schema.outputs, hidden=pmf.width, dropout=pmf.dropout)
            self.penalty = pmf.density
            self.reduction: Reduction = config.density_reduction

    def present(self, batch: Batch) -> Tensor:
        """`(utterances, modalities)` bool."""
        return torch.stack([batch.present[m] for m in self.modalities], 1)

    def nodes(self, batch: Batch) -> Tensor:
        """n^m: `(utterances, modalities, width)`; without PMF the bare BiLSTM states."""
        features = self.inputs(batch)
        features = {m: self.project[m](value) if self.project else value for m, value in features.items()}
        states = torch.stack([self.encode[m](self.dropout(features[m]), batch) for m in self.modalities], 1)  # Eq. (1)
        return states + self.speaker(batch)[:, None] if self.enabled else states  # Eq. (2)

    def forward(self, batch: Batch) -> Tensor:
        """E^(m1m2): `(utterances, output_width)`."""
        nodes, present = self.nodes(batch), self.present(batch)
        if not self.enabled:
            return (nodes * present[..., None]).flatten(1)
        return self.conv(nodes, present, batch, self.recipe).flatten(1)  # Eqs. (3)-(5)

    def predict(self, batch: Batch) -> Prediction:
        """Stage 1: the pair's own classifier and density loss."""
        fused = self(batch)
        penalty = self.penalty * density(fused, self.reduction)  # Eqs. (6), (7)
        return Prediction(scores=self.classify(fused), penalty=penalty, penalty_reduction=self.reduction, states=fused)


class MultipleFeaturesFusion(nn.Module):
    """MFF: the second graph, over the fused pairs, and the context of the second text feature."""

    def __init__(self, schema: Schema, widths: dict[str, int], config: PairwiseConfig, recipe: GraphRecipe) -> None:
        super().__init__()
        mff = config.mff
        self.recipe = recipe

        def gru(inputs: int) -> Recurrent:
            return Recurrent("gru", inputs, mff.width, bidirectional=mff.bidirectional)

        self.shared = gru(next(iter(widths.values()))) if mff.shared_gru else None  # all pairs are as wide as each other
        self.encode = nn.ModuleDict({} if mff.shared_gru else {pair: gru(width) for pair, width in widths.items()})
        self.dropout = Dropout(mff.dropout)
        self.speaker = _speaker(schema, mff.width, config) if mff.speaker else None
        self.conv = AngularConv(mff.width, config.conv, dropout=mff.dropout) if mff.gcn else None
        self.output_width = len(widths) * (self.conv.output_width if self.conv else mff.width)
        used = mff.context_encoder or config.mal.context_skip
        self.context = config.context_text if used and config.context_text in schema.widths else ""
        self.inputs = Inputs({self.context: schema.widths[self.context]} if self.context else {}, speaker_relative=config.speaker_relative)
        width = self.inputs.output_widths[self.context] if self.context else 0
        self.project = nn.Sequential(nn.Linear(width, mff.width), nn.ReLU()) if self.context and mff.project else None
        self.encode_context = gru(mff.width if self.project else width) if self.context else None
        self.transform = None
        if self.context and mff.context_encoder:
            self.transform = TransformerEncoder(
                mff.width, heads=mff.heads, layers=mff.layers, dropout=mff.dropout, causal=config.causal, past=recipe.past
            )
            self.output_width += mff.width

    def nodes(self, batch: Batch, pairs: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """n^(p) `(utterances, pairs, width)`, and the GRU states h^(p) by pair."""
        nets = [cast(Recurrent, self.encode[p]) if self.shared is None else self.shared for p in pairs]  # one GRU1, or one for each
        hidden = dict(zip(pairs, side_by_side(nets, [self.dropout(e) for e in pairs.values()], batch), strict=True))  # Eq. (8)
        nodes = torch.stack(list(hidden.values()), 1)
        return (nodes if self.speaker is None else nodes + self.speaker(batch)[:, None]), hidden  # Eq. (9)

    def forward(self, batch: Batch, pairs: dict[str, Tensor], present: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """E^(MF) `(utterances, output_width)`, and the GRU states by stream (`Bt` for the second text feature)."""
        nodes, hidden = self.nodes(batch, pairs)
        fused = self.conv(nodes, present, batch, self.recipe) if self.conv else nodes * present[..., None]  # Eq. (10)
        fused = fused.flatten(1)
        if self.encode_context is not None:
            features = self.inputs(batch)[self.context]
            features = self.project(features) if self.project else features
            hidden["Bt"] = self.encode_context(self.dropout(features), batch)  # Eq. (11)
            if self.transform is not None:
                fused = torch.cat([fused, self.transform(hidden["Bt"], batch)], -1)  # Eq. (12)
        return fused, hidden


class MultimodalAttention(nn.Module):
    """MAL: attention layers with skip connections, and the classifier."""

    def __init__(
        self,
        inputs: int,
        skip_pair: int,
        skip_context: int,
        outputs: int,
        config: MalConfig,
        *,
        causal: bool = False,
        past: int | None = None,
    ) -> None:
        super().__init__()
        self.pair_skip, self.context_skip = bool(config.pair_skip and skip_pair), bool(config.context_skip and skip_context)
        skip = skip_pair if self.pair_skip else 0
        self.attention, self.carry = nn.ModuleList(), nn.ModuleList()
        self.dropout = Dropout(config.dropout)
        width = inputs
        for layer in range(config.layers if config.attention else 0):
            joined = width + (skip if layer else 0)
            self.attention.append(SelfAttention(joined, config.width, heads=config.heads, dropout=config.dropout, causal=causal, past=past))
            if config.residual:
                self.carry.append(nn.Linear(joined, config.width, bias=False))
            width = config.width
        if not config.attention or config.layers == 1:  # no later layer that could take the skip
            width += skip
        self.output_width = width + (skip_context if self.context_skip else 0)
        self.classify = Classifier(self.output_width, outputs, hidden=config.hidden, dropout=config.dropout)

    def forward(self, fused: Tensor, pair: Tensor, context: Tensor | None, batch: Batch) -> Tensor:
        """E^(MM): `(utterances, output_width)`."""
        state = fused
        for layer, attention in enumerate(self.attention):
            joined = torch.cat([state, pair], -1) if layer and self.pair_skip else state
            state = attention(self.dropout(joined), batch)  # Eq. (13)
            state = state + self.carry[layer](joined) if self.carry else state
        if len(self.attention) < 2 and self.pair_skip:
            state = torch.cat([state, pair], -1)
        return torch.cat([state, context], -1) if self.context_skip and context is not None else state  # of Eq. (14)


class Pairwise(Pipeline):
    """Fusing pairwise modalities over conversation graphs, for one to three modalities and any second text feature."""

    Config = PairwiseConfig
    reads = ("features", "sequences")

    def __init__(self, schema: Schema, config: PairwiseConfig | None = None) -> None:
        super().__init__(schema)
        self.config = config = config or PairwiseConfig()
        self.text_layers = _text_layers(schema, config.text_layers)
        schema = _vectors(schema, self.text_layers is not None)
        recipe = load_recipe(config.graph)
        if config.gamma is not None:
            for rule in recipe.edges:
                recipe = recipe.with_scale(rule.relation, config.gamma) if rule.scope == "across" else recipe
        if config.causal and not recipe.causal:
            raise ConfigError(
                f"pipeline.causal: expected a graph without edges from later turns, found {recipe.name!r}; "
                "set pipeline.graph to causal_window or causal, or pipeline.causal to false"
            )
        roles = self.roles(config)
        self.prior = schema.prior(config.prior, config.prior_around)
        lacking = [name for name in roles if name not in schema.widths]
        if lacking:
            option = "context_text" if lacking[0] == config.context_text else "given_speakers"
            raise ConfigError(f"pipeline.{option}: expected a feature set `{lacking[0]}`; the corpus has {', '.join(schema.widths)}")
        self.modalities = tuple(sorted(name for name in schema.widths if name not in (*roles, "speaker")))
        if not self.modalities:
            raise ConfigError(
                f"modalities: the pairwise method needs at least one of text, audio, visual; found {', '.join(schema.widths)}"
            )
        groups = list(combinations(self.modalities, min(2, len(self.modalities))))
        self.recipe = recipe
        self.fusion = nn.ModuleDict({"+".join(group): PairFusion(schema, group, config, recipe) for group in groups})
        widths = {name: fusion.output_width for name, fusion in self.fusions.items()}
        self.mff = MultipleFeaturesFusion(schema, widths, config, recipe)
        without_text = [name for name in self.fusion if "text" not in name.split("+")]
        self.skip = (without_text or list(self.fusion))[0]
        width = config.mff.width
        self.mal = MultimodalAttention(
            self.mff.output_width,
            width,
            width if self.mff.context else 0,
            schema.outputs,
            config.mal,
            causal=config.causal,
            past=recipe.past,
        )

    @property
    def causal(self) -> bool:
        """Whether `pipeline.causal` is set."""
        return self.config.causal

    @staticmethod
    def roles(config: PairwiseConfig) -> tuple[str, ...]:
        """Feature sets that are no modality of the graph: the second text feature, given speaker vectors, log-probabilities."""
        prior = () if config.prior_stream else prior_names(config.prior)
        return ((config.context_text,) if config.context_text != "text" else ()) + (("speaker",) if config.given_speakers else ()) + prior

    @property
    def fusions(self) -> dict[str, PairFusion]:
        """PMF by pair."""
        return cast("dict[str, PairFusion]", dict(self.fusion.items()))

    def fit_inputs(self, train: Batch) -> None:
        """Fit the scaling of all inputs on training data; layers of a text encoder start from the pretrained ones."""
        if self.text_layers is not None:
            self.text_layers.start_from(made_by(self.schema.provenance, "text"))
            self.text_layers.eval()
        with torch.no_grad():
            super().fit_inputs(self.read(train))

    def read(self, batch: Batch) -> Batch:
        """The batch with a vector in the place of every sequence: words through the layers that are trained, others pooled."""
        if not (self.schema.sequences and batch.sequences):
            return batch
        vectors, words = pooled(batch), batch.sequences.get("text")
        if self.text_layers is None or words is None:
            return vectors
        return replace(vectors, features={**vectors.features, "text": self.text_layers(words)})

    def stages(self) -> list[Stage]:
        """PMF of every pair, then MFF with MAL; or all at once."""
        pmf, mal = self.config.pmf, self.config.mal
        last = Stage(
            name="mff+mal",
            module=self,
            forward=self.forward,
            learning_rate=mal.learning_rate,
            weight_decay=mal.weight_decay,
            epochs=mal.epochs,
            rates=() if self.text_layers is None else ((self.text_layers, self.config.text_layers.rate),),
        )
        if self.config.stages == "joint" or not pmf.enabled:
            return [last]
        pairs = [
            Stage(
                name=f"pmf {name}",
                module=fusion,
                forward=fusion.predict,
                learning_rate=pmf.learning_rate,
                weight_decay=pmf.weight_decay,
                epochs=pmf.epochs,
            )
            for name, fusion in self.fusions.items()
        ]
        own = [self.mff, self.mal, *([self.prior] if self.prior else [])]
        return [*pairs, replace(last, module=nn.ModuleList(own))]

    @torch.no_grad()
    def start_stage(self, index: int, batch: Batch) -> Batch:
        """Before the last of two stages: keep what the trained and frozen pairs say, instead of asking them in every epoch."""
        batch = batch if self.text_layers is not None else self.read(batch)
        if index == 0 or index < len(self.stages()) - 1:
            return batch
        self.eval()
        return batch.with_cache({name: in_parts(fusion, batch) for name, fusion in self.fusions.items()})

    def pairs(self, batch: Batch) -> dict[str, Tensor]:
        """E^(m1m2) of every pair, from the cache where it is there."""
        return {name: batch.cache[name] if name in batch.cache else fusion(batch) for name, fusion in self.fusions.items()}

    def present(self, batch: Batch) -> Tensor:
        """`(utterances, pairs)` bool: a fused pair is present where any of its parts is."""
        return torch.stack([fusion.present(batch).any(1) for fusion in self.fusions.values()], 1)

    def convolutions(self) -> dict[str, tuple[AngularConv, tuple[str, ...]]]:
        """GCN_p by pair, and GCN_f as `fused`."""
        found = {name: (fusion.conv, fusion.modalities) for name, fusion in self.fusions.items() if fusion.enabled}
        return {**found, "fused": (self.mff.conv, tuple(self.fusion))} if self.mff.conv else found

    @torch.no_grad()
    def graph(self, dialogue: Dialogue, part: str | None = None) -> HeteroData:
        """The graph of a conversation with the weights that this pipeline gives it.

        Args:
            dialogue: The conversation.
            part: A pair such as `audio+text` (nodes: its modalities) or `fused` (nodes: the pairs); unset: the only pair, else `fused`.

        Raises:
            ConfigError: no such part.
        """
        from erc_graph.graphs.build import build_from_states

        part = part or ("fused" if len(self.fusion) > 1 else next(iter(self.fusion)))
        if part != "fused" and part not in self.fusion:
            raise ConfigError(f"part: expected fused or one of {', '.join(self.fusion)}, found {part!r}")
        with evaluating(self):
            batch = self.read(self.schema.batch(dialogue.corpus).to(self.device))
            if part == "fused":
                streams, (nodes, _), here = tuple(self.fusion), self.mff.nodes(batch, self.pairs(batch)), self.present(batch)
            else:
                fusion = self.fusions[part]
                streams, nodes, here = fusion.modalities, fusion.nodes(batch), fusion.present(batch)
        states, present = dict(zip(streams, nodes.unbind(1), strict=True)), dict(zip(streams, here.unbind(1), strict=True))
        return build_from_states(batch, states, present, self.recipe, dialogue.corpus)

    def forward(self, batch: Batch) -> Prediction:
        """Scores of every utterance: `(utterances, classes)`."""
        batch = self.read(batch)
        if self.training and self.config.swap_noise:
            batch = swapped(batch, {name: share for name, share in self.config.swap_noise.items() if name in batch.features})
        pairs = self.pairs(batch)
        fused, hidden = self.mff(batch, pairs, self.present(batch))  # Eqs. (8)-(12)
        states = self.mal(fused, hidden[self.skip], hidden.get("Bt"), batch)  # Eq. (13)
        penalty = self.config.mal.density * density(states, self.config.density_reduction)  # Eqs. (14), (15)
        auxiliary = {}
        if self.config.stages == "joint" and self.config.pmf.enabled:
            auxiliary = {name: fusion.classify(pairs[name]) for name, fusion in self.fusions.items()}
            for name in pairs:
                penalty = penalty + self.config.auxiliary * self.config.pmf.density * density(pairs[name], self.config.density_reduction)
        scores = self.mal.classify(states)
        return Prediction(
            scores=scores if self.prior is None else self.prior(scores, batch),
            penalty=penalty,
            penalty_reduction=self.config.density_reduction,
            auxiliary=auxiliary,
            auxiliary_weight=self.config.auxiliary,
            states=states,
        )


def _text_layers(schema: Schema, config: TextLayersConfig) -> TextLayers | None:
    """The layers that are trained with the pipeline, where there are any."""
    if not config.layers:
        return None
    item = schema.sequences.get("text", ())
    if len(item) != 1:
        found = "text is no sequence" if not item else f"items of shape {item}"
        raise ConfigError(
            f"pipeline.text_layers.layers: expected token states of text, a sequence (erc-graph features --pooling words), found {found}"
        )
    return TextLayers(item[0], config)


def _vectors(schema: Schema, words: bool) -> Schema:
    """The schema with a width for every sequence: of a token state where layers read `words`, else of its mean and deviation."""
    widths = {name: item[0] if words and name == "text" else pooled_width(item) for name, item in schema.sequences.items()}
    return replace(schema, widths={**schema.widths, **widths}, sequences={})


def _speaker(schema: Schema, width: int, config: PairwiseConfig) -> SpeakerEmbedding:
    return SpeakerEmbedding(width, speakers=config.speakers, given=schema.widths["speaker"] if config.given_speakers else 0)
