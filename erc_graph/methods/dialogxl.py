r"""DialogXL: All-in-One XLNet for Multi-Party Conversation Emotion Recognition (Shen et al., AAAI 2021).

XLNet processes the dialogue utterance by utterance. Every layer has a memory, which contains the states of earlier utterances. Each
attention head belongs to one of four groups. Local heads attend to the last `window` utterances, and global heads to all earlier
utterances. Speaker heads attend to earlier utterances of the same speaker, and listener heads to earlier utterances of other speakers.

.. math::
    H^0_i &= [\texttt{<cls>} ; \text{tokens of turn } i] \tag{1} \\
    H^{l+1}_i &= \mathrm{Layer}_l(H^l_i, [M^l_i ; H^l_i]), \; M^l_i = [H^l_1 ; \dots ; H^l_{i-1}] \text{ less } \texttt{<cls>} \tag{2} \\
    o_i &= \mathrm{ReLU}(W_o H^L_{i, \texttt{<cls>}} + b_o) \tag{3} \\
    s_i &= W_3\, \mathrm{ReLU}(W_2\, \mathrm{ReLU}(W_1 o_i + b_1) + b_2) + b_3 \tag{4}

We had no access to the paper's text. The equations follow the public code; the equation numbers are ours. The attention of (2) is described
in `erc_graph.encoders.dialog_attention`.

| symbol | attribute | shape (`N`: utterances) |
|---|---|---|
| `<cls>` | `begin` | `(width,)` |
| tokens | `words`, `turn` | `(N, tokens, width)` |
| Layer | `context.layers[l]` | see `erc_graph.encoders.dialog_attention` |
| `W_o`, `W_1`, `W_2`, `W_3` | `classify` | `(hidden, width)`, `(hidden, hidden)` twice, `(classes, hidden)` |

**Differences from the paper and from its public code**

- If text is given as token ids and the folder of the option `language_model.folder` contains an XLNet, the layers have its weights. Any
  other language model encodes each utterance separately, and layers with random initial weights follow. They also have random initial
  weights if text is given as token states, or as a vector.
- All modalities that are vectors are concatenated and mapped to one token of the utterance, which precedes the tokens of its text. The
  input of the paper is only text.
- In the public code, tokens attend to the padding of shorter utterances, so scores depend on the batch (by 0.4 in a small model). Here
  padding is masked. For a batch of one dialogue, the scores equal those of the code. The code fails if the first utterance has no token.
  Here an utterance without tokens consists of `<cls>`.
- The public code makes a training step after every utterance. The gradient does not reach earlier utterances, and their states in the
  memory were computed with older weights. Here a training step covers whole dialogues, and the gradient flows through the memory.
- Empty utterances that pad shorter dialogues are ignored here. At each utterance position, the loss of the public code is a mean over the
  dialogues that are long enough. Late utterances therefore have more weight. Here batches are shuffled; in the code, the last batches have
  the longest dialogues.
- `<cls>` is a separate parameter, initialised with the embedding of `<cls>` in XLNet. As in the public code, the closing tokens of XLNet's
  tokenizer are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from erc_graph.data.files.storage import load_tensors
from erc_graph.data.nodes import Nodes
from erc_graph.data.ragged import Ragged
from erc_graph.encoders.dialog_attention import GROUPS, DialogAttention, RelativeLayer
from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.language_model import IDS, LanguageModel, LanguageModelConfig, check_ids, token_nodes
from erc_graph.errors import ConfigError
from erc_graph.features.text import find_encoder
from erc_graph.methods.base import Method
from erc_graph.methods.inputs import Given, Shapes
from erc_graph.methods.paper import Paper
from erc_graph.methods.parts import Turn
from erc_graph.methods.ranges import Checked, Even, Share, Size
from erc_graph.methods.stage import Stage

CLS, CLOSING = 3, (4, 3)  # ids in XLNet's vocabulary: the token that stands for the whole, and those behind a text


@dataclass(frozen=True, kw_only=True)
class DialogXLConfig(Checked):
    """Options of DialogXL; symbols and numbers such as (4) refer to the equations in the docstring of the module.

    Attributes:
        width: Width of the states. If the language model is an XLNet, it determines `width`, `layers` and `feedforward`.
        layers: Number of layers in (2).
        feedforward: Hidden width of each layer.
        local_heads: Number of heads that attend to the last utterances.
        global_heads: Number of heads that attend to all earlier utterances.
        speaker_heads: Number of heads that attend to earlier utterances of the same speaker.
        listener_heads: Number of heads that attend to earlier utterances of other speakers.
        window: Number of earlier utterances to which local heads attend.
        memory: Largest number of tokens of earlier utterances to which a head attends.
        hidden: Hidden width of the classifier.
        dropout: Dropout in the layers and the classifier.
        language_model: Language model for text given as token ids.
    """

    width: Even = 128
    layers: Size = 2
    feedforward: Size = 256
    local_heads: Size = 1
    global_heads: Size = 1
    speaker_heads: Size = 1
    listener_heads: Size = 1
    window: Size = 5
    memory: Size = 400
    hidden: Size = 128
    dropout: Share = 0.1
    language_model: LanguageModelConfig = field(default_factory=LanguageModelConfig)


class DialogXL(Method):
    """Attention between the tokens of a dialogue, with local, global, speaker and listener heads."""

    Config = DialogXLConfig
    family = "language model"
    reads = ("sequences", "features")
    sequences_of = ("text",)
    paper = Paper(
        title="DialogXL: All-in-One XLNet for Multi-Party Conversation Emotion Recognition",
        authors="Shen et al.",
        venue="AAAI",
        year=2021,
        url="https://arxiv.org/abs/2012.08695",
        code="https://github.com/shenwzh3/DialogXL",
    )

    def build(self, c: DialogXLConfig, shapes: Shapes) -> None:
        """Build the modules in the order of the equations. If the language model is an XLNet, its sizes replace the configured sizes."""
        item, head_width = shapes.items.get("text"), None
        self.heads = tuple(getattr(c, f"{group}_heads") for group in GROUPS)
        self.model: LanguageModel | None = None
        self.words: nn.Module | None = None
        if item == IDS:
            found = c.language_model.found()
            if found.settings.get("model_type") == "xlnet":
                if found.lora:
                    raise ConfigError(
                        "pipeline.language_model.lora: expected 0 for an XLNet, because DialogXL computes XLNet with attention "
                        f"layers of its own, to which no low-rank matrices are added, found {found.lora}; set this option to 0"
                    )
                own, found = found.settings, replace(found, folder="")
                if own["n_head"] != sum(self.heads):
                    raise ConfigError(
                        f"pipeline: expected {own['n_head']} attention heads in all groups, as in XLNet, found {sum(self.heads)}; change "
                        + ", ".join(f"{group}_heads" for group in GROUPS)
                    )
                c = replace(c, width=own["d_model"], layers=own["n_layer"], feedforward=own["d_inner"])
                head_width, self.words = own["d_head"], nn.Embedding(own["vocab_size"], own["d_model"])
            else:
                self.model = LanguageModel(c.language_model)
                found = self.model.config
                self.words = nn.Linear(self.model.width, c.width)
            self.config = replace(c, language_model=found)
        elif item is not None:
            self.words = nn.Linear(item[0], c.width)
        self.turn = Turn(shapes.widths, c.width) if shapes.widths else None
        self.begin = nn.Parameter(0.02 * torch.randn(c.width))
        layers = [RelativeLayer(c.width, sum(self.heads), c.feedforward, c.dropout, head_width) for _ in range(c.layers)]
        self.context = DialogAttention(layers, self.heads, window=c.window, memory=c.memory)
        widths = (c.width, c.hidden, c.hidden, c.hidden)
        first, *hidden = (nn.Sequential(nn.Linear(inputs, c.hidden), nn.ReLU()) for inputs in widths[:3])
        self.classify = nn.Sequential(first, Dropout(c.dropout), *hidden, nn.Linear(c.hidden, shapes.outputs))  # Eqs. (3), (4)
        if c.language_model.folder and isinstance(self.words, nn.Embedding):
            self.take(load_tensors(find_encoder(c.language_model.folder) / "model.safetensors")[0])

    @torch.no_grad()
    def take(self, weights: Mapping[str, Tensor]) -> None:
        """Copy the weights of a pretrained XLNet. The names of the weights are those of the library transformers."""
        given = {name.removeprefix("transformer."): value for name, value in weights.items()}
        names = {"query": "q", "key": "k", "value": "v", "relative": "r"}
        found = {"words.weight": given["word_embedding.weight"], "begin": given["word_embedding.weight"][CLS]}
        for i in range(self.config.layers):
            ours, attention = f"context.layers.{i}", f"layer.{i}.rel_attn"
            found |= {f"{ours}.{name}.weight": given[f"{attention}.{theirs}"].flatten(1).T for name, theirs in names.items()}
            found |= {f"{ours}.output.weight": given[f"{attention}.o"].flatten(1)}
            found |= {f"{ours}.content_bias": given[f"{attention}.r_w_bias"], f"{ours}.position_bias": given[f"{attention}.r_r_bias"]}
            parts = {"norm": f"{attention}.layer_norm", "last_norm": f"layer.{i}.ff.layer_norm"}
            parts |= {f"feedforward.{k}": f"layer.{i}.ff.layer_{n}" for k, n in ((0, 1), (3, 2))}
            found |= {f"{ours}.{name}.{end}": given[f"{theirs}.{end}"] for name, theirs in parts.items() for end in ("weight", "bias")}
        own = self.state_dict()
        for name, value in found.items():
            own[name].copy_(value)

    def tokens(self, given: Given) -> tuple[Tensor, Tensor]:
        """Return the tokens of every utterance, `(N, S, width)`, and a bool mask of real tokens, `(N, S)`.

        `S` is the largest number of tokens of an utterance. The tokens are `<cls>`, one token for all vectors of the utterance (if the
        corpus has vectors), and the tokens of its text.
        """
        turns = given.batch.utterances
        parts, here = [self.begin.expand(turns, 1, -1)], [torch.ones(turns, 1, dtype=torch.bool, device=self.begin.device)]
        if self.turn is not None:
            parts.append((nodes := self.turn(given)).masked())
            here.append(nodes.present)
        if self.words is not None:
            words = given.sequences["text"] if self.model is None else self.model(given.sequences["text"])
            nodes, values = token_nodes(words), words.values
            if isinstance(self.words, nn.Embedding):
                closing = nodes.states[..., 0, None] == torch.tensor(CLOSING, device=values.device)
                check_ids(values := values[:, 0].long(), self.words.num_embeddings)
                here.append(nodes.present & ~closing.any(-1))
            else:
                here.append(nodes.present)
            parts.append(token_nodes(Ragged(self.words(values), words.ptr)).states)
        return torch.cat(parts, 1), torch.cat(here, 1)  # Eq. (1)

    def encode(self, given: Given) -> Tensor:
        """Compute the utterance states before the classifier, `(N, width)`."""
        states, here = self.tokens(given)
        nodes = Nodes(states, here, tuple(map(str, range(here.shape[1]))))
        return self.context(nodes, given.batch).states[:, 0]  # Eq. (2)

    def stages(self) -> list[Stage]:
        """Return one training stage. A language model that is not an XLNet has its own learning rate."""
        stage = self.stage("train", self)
        return [stage if self.model is None else replace(stage, rates=((self.model, self.config.language_model.rate), *stage.rates))]
