"""Fine-tuning of text encoders on single utterances, before the training of a conversation model.

A fine-tuned encoder is fitted to the labels of its training utterances. The features of training utterances therefore separate the classes
much better than the features of new utterances. This difference harms a conversation model that is trained on the features. The published
features of COSMIC have this problem (Ghosal et al., *COSMIC*, Findings of EMNLP 2020). Cross-fitting avoids this problem
(`erc_graph.features.cross_fitting`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from erc_graph.data.corpus import Corpus
from erc_graph.data.files.storage import write_json
from erc_graph.errors import ConfigError, expect
from erc_graph.features.pretrained import Precision, Quantize
from erc_graph.features.processes import Share, wait_for
from erc_graph.features.text import find_encoder, revision, seen_from
from erc_graph.features.tuned import Output, TunedEncoder
from erc_graph.features.tuned_files import ABOUT, continues, describe, refuse_foreign
from erc_graph.features.utterance_classifier import TuningRun, Utterances


@dataclass(frozen=True, kw_only=True)
class TuningConfig:
    """Options of the fine-tuning of a text encoder.

    Attributes:
        epochs: Number of epochs. The encoder gets the weights of the epoch with the best result on the development split.
        batch_size: Number of utterances per optimizer step.
        learning_rate: Highest learning rate. The learning rate grows from zero in the first tenth of the steps, then decreases linearly to
            zero. Default: 1e-4, or 1e-3 for low-rank matrices.
        weight_decay: Weight decay of AdamW, for weight matrices only.
        dropout: Dropout before the classifier. Dropout inside the encoder is defined by the files of the encoder.
        context: Number of preceding utterances that are added to the input of the encoder. The limit of tokens can cut the oldest
            utterances.
        gradient_checkpointing: Recompute the states of the layers in the backward pass instead of storing them, which saves memory but
            takes more time.
        seed: Seed of the initial classifier weights, the order of utterances, dropout and folds.
        lora: Rank of the low-rank matrices that are trained in place of the weights of the encoder (`erc_graph.features.low_rank`); 0:
            train all weights.
        quantize: Load the weight matrices of the encoder in `8bit` or `4bit`; only possible with `lora`.
    """

    epochs: int = 3
    batch_size: int = 32
    learning_rate: float | None = None
    weight_decay: float = 0.01
    dropout: float = 0.1
    context: int = 0
    gradient_checkpointing: bool = False
    seed: int = 0
    lora: int = 0
    quantize: Quantize = "no"

    def __post_init__(self) -> None:
        expect(
            "tuning",
            self,
            epochs=(self.epochs >= 1, "1 or more"),
            batch_size=(self.batch_size >= 1, "1 or more"),
            learning_rate=(self.learning_rate is None or 0 < self.learning_rate < math.inf, "a number above 0"),
            weight_decay=(self.weight_decay >= 0, "a number of 0 or more"),
            dropout=(0 <= self.dropout < 1, "a number in [0, 1)"),
            context=(self.context >= 0, "0 or more"),
            seed=(0 <= self.seed < 2**63, "an integer from 0 to 2**63 - 1"),
            lora=(self.lora >= 0, "a rank of 1 or more, or 0"),
            quantize=(self.quantize == "no" or self.lora > 0, "--lora as well, because quantized matrices are not trained"),
        )

    @property
    def rate(self) -> float:
        """Return the highest learning rate."""
        return self.learning_rate or (1e-3 if self.lora else 1e-4)


def tune(
    corpus: Corpus,
    model: str,
    folder: Path,
    config: TuningConfig,
    *,
    cross_fit: int = 0,
    repeats: int = 1,
    output: Output = "features",
    device: torch.device | str = "cpu",
    precision: Precision = "no",
    share: Share | None = None,
    quiet: bool | None = None,
) -> TunedEncoder:
    """Fine-tune a pretrained encoder on the training split.

    Finished encoders in `folder` are reused. An interrupted fine-tuning is continued; the result is the same as without interruption. If
    there are several processes, each process trains some of the encoders.

    Args:
        corpus: A corpus with texts, targets and splits.
        model: Name or folder of the pretrained encoder, see `find_encoder`.
        folder: Folder of the encoders. After the fine-tuning, the folder can be loaded as a text encoder (`TunedEncoder`).
        config: Options of the fine-tuning.
        cross_fit: Number of folds of the training dialogues, 2 or more; 0: a single encoder, trained on all training dialogues.
        repeats: Number of repetitions, each with other folds and initial weights. Repetition `r` equals a run with the seed
            `config.seed + r`.
        output: Output of the returned encoder, see `TunedEncoder`.
        device: Device of the computation.
        precision: Precision of matrix products: `bf16` (16 bits) or `no` (32 bits). With `bf16` and low-rank matrices, weights of the
            pretrained encoder that are stored in 16 bits are also loaded in 16 bits.
        share: Share of the encoders that this process trains; default: all encoders.
        quiet: Show no progress; default: show a progress bar on a terminal, or else one line per minute.

    Raises:
        ConfigError: the number of folds or repetitions is impossible, or peft or bitsandbytes is not installed.
        CorpusError: there are no texts, no training split, or no labels in the training split.
        CheckpointError: the folder has encoders with other settings or of other utterances, a saved state is damaged, or weights are not
            finite.
    """
    share = share or Share()
    if repeats < 1:
        raise ConfigError(f"repeats: expected 1 repetition or more, found {repeats}")
    about = describe(corpus, model, config, cross_fit, precision, repeats)
    if config.lora:  # what is saved is nothing without the encoder that it was tuned from
        about |= {"model": seen_from(folder, model), "revision": revision(find_encoder(model))}
    if (folder / ABOUT).is_file():
        if continues(folder, about) and share.first:
            write_json(folder / ABOUT, about)
    elif share.first:
        refuse_foreign(folder)
        write_json(folder / ABOUT, about)
    else:
        wait_for(lambda: (folder / ABOUT).is_file())
    data = Utterances(corpus, model, config.context)
    for number, (name, held_out) in enumerate(about["members"].items()):
        if number % share.of == share.number and not (folder / name).is_dir():
            seeded = replace(config, seed=config.seed + number // max(cross_fit, 1))
            TuningRun(data, name, set(held_out), folder, seeded, torch.device(device), precision, quiet).fit()
    wait_for(lambda: all((folder / name).is_dir() for name in about["members"]))
    return TunedEncoder(folder, output=output, device=device, precision=precision)
