"""The fine-tuning of one text encoder, with a classifier of single utterances. The training state is saved after every epoch."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from erc_graph.data.corpus import Corpus
from erc_graph.data.files.storage import atomic_folder, save_tensors
from erc_graph.data.progress import Progress
from erc_graph.errors import CheckpointError, ConfigError, CorpusError
from erc_graph.features.context import readings
from erc_graph.features.low_rank import save_low_rank, with_low_rank
from erc_graph.features.model_config import model_config, reading_model
from erc_graph.features.pretrained import Precision, pretrained
from erc_graph.features.text import find_encoder, mean_state
from erc_graph.features.tokens import Tokens, chunks
from erc_graph.features.tuned_files import BESIDE, HEAD, STATE, WHOLE, read_part

if TYPE_CHECKING:
    from erc_graph.features.fine_tuning import TuningConfig


class Utterances:
    """Token ids and targets of the utterances of a corpus, for the fine-tuning of an encoder.

    Args:
        corpus: `U` utterances with texts and targets.
        model: Name or folder of the pretrained encoder, see `find_encoder`.
        context: Number of preceding utterances in the input of the encoder.

    Raises:
        ConfigError: `context` is not zero, but the tokenizer adds no token after a sentence.
    """

    def __init__(self, corpus: Corpus, model: str, context: int) -> None:
        self.model, self.source = model, find_encoder(model)
        with reading_model(self.source):
            self.tokens = Tokens(self.source, model_config(self.source))
        if context and self.tokens.closing is None:
            raise ConfigError(
                f"tuning.context: expected 0 for {model}, because its tokenizer adds no token after an utterance that could "
                f"separate utterances, found {context}"
            )
        self.ids = self.tokens(readings(corpus, context))[0]
        self.target, self.task = corpus.target, corpus.task
        spoken = torch.tensor([bool(text.strip() and ids) for text, ids in zip(corpus.texts, self.ids, strict=True)])
        self.usable = corpus.labelled & spoken
        names = [corpus.dialogue_ids[i] for i in corpus.dialogue_of.tolist()]
        self.dialogue = np.asarray(names, dtype=object)
        self.splits = corpus.splits

    def rows(self, split: str, without: set[str]) -> list[int]:
        """Return the positions of the utterances of a split that have words and a target. The dialogues in `without` are left out."""
        wanted = set(self.splits.get(split, ())) - without
        return [row for row in self.usable.nonzero()[:, 0].tolist() if self.dialogue[row] in wanted]


class Classified(nn.Module):
    """A pretrained encoder with a linear classifier on the mean of the token states of the utterance.

    Args:
        folder: Folder of the pretrained encoder.
        outputs: Number of classes; 1 for a score task.
        config: Options of the fine-tuning.
        device: Device of the encoder.
        precision: Precision of weights that are not trained.

    Raises:
        ConfigError: the encoder does not support an option, or peft or bitsandbytes is not installed.
    """

    def __init__(self, folder: Path, outputs: int, config: TuningConfig, device: torch.device, precision: Precision) -> None:
        super().__init__()
        self.encoder = pretrained(folder, precision=precision if config.lora else "no", quantize=config.quantize, device=device)
        if config.gradient_checkpointing:
            if not self.encoder.supports_gradient_checkpointing:
                kind = type(self.encoder).__name__
                raise ConfigError(f"tuning.gradient_checkpointing: expected a model that supports gradient checkpointing, found {kind}")
            names = ("activation_checkpointing_enable", "gradient_checkpointing_enable")  # of new and older versions of transformers
            enable = next(getattr(self.encoder, name) for name in names if hasattr(self.encoder, name))
            enable({"use_reentrant": False})
        self.dropout, self.lora = nn.Dropout(config.dropout), config.lora
        self.classify = nn.Linear(self.encoder.config.hidden_size, outputs)
        nn.init.normal_(self.classify.weight, std=0.02)
        nn.init.zeros_(self.classify.bias)
        if self.lora:
            self.encoder = with_low_rank(self.encoder, config.lora)

    def forward(self, ids: Tensor, mask: Tensor, own: Tensor) -> Tensor:
        """Compute the scores of the classes, `(n, outputs)`, for `n` texts of `L` tokens.

        Args:
            ids: Token ids, `(n, L)`.
            mask: Whether each token is real and not padding, `(n, L)` bool.
            own: Whether each token belongs to the utterance and not to its context, `(n, L)` bool.
        """
        states = self.encoder(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        return self.classify(self.dropout(mean_state(states.float(), own)))

    def trained(self) -> dict[str, Tensor]:
        """Return the weights that are trained: all weights, or only those of the low-rank matrices and the classifier."""
        known = self.state_dict()
        return {name: value for name, value in known.items() if not self.lora or ".lora_" in name or name.startswith("classify.")}

    def take(self, weights: Mapping[str, Tensor]) -> None:
        """Load values for the trained weights; see `trained`.

        Raises:
            ValueError: the names of the values differ from the names of the trained weights.
        """
        if weights.keys() != self.trained().keys():
            raise ValueError("other weights")
        self.load_state_dict(weights, strict=False)


class TuningRun:
    """The fine-tuning of one encoder. The training state is saved after every epoch.

    Args:
        data: Utterances of the whole corpus.
        name: Name of the encoder, which is also the name of its folder.
        held_out: Training dialogues on which the encoder is not trained.
        folder: Folder of all fine-tuned encoders; at the end, a subfolder for this encoder is created.
        config: Options of the fine-tuning.
        device: Device of the computation.
        precision: Precision of matrix products: `bf16` (16 bits) or `no` (32 bits).
        quiet: Show no progress; default: show the progress.

    Raises:
        CorpusError: there is no labelled training utterance outside the held-out dialogues.
    """

    def __init__(
        self,
        data: Utterances,
        name: str,
        held_out: set[str],
        folder: Path,
        config: TuningConfig,
        device: torch.device,
        precision: Precision,
        quiet: bool | None,
    ) -> None:
        self.data, self.name, self.config, self.device, self.quiet = data, name, config, device, quiet
        self.folder, self.state = folder / name, folder / f"{name}.{STATE}"
        self.train, self.dev = data.rows("train", held_out), data.rows("dev", set())
        if not self.train:
            raise CorpusError(f"{name}: expected labelled training utterances in the other folds, found none; use fewer folds")
        outputs = len(data.task.labels) if data.task.kind == "classification" else 1
        torch.manual_seed(config.seed)
        self.model = Classified(data.source, outputs, config, device, precision).to(device)
        self.weights = [p for p in self.model.parameters() if p.requires_grad]
        matrices, others = [p for p in self.weights if p.ndim > 1], [p for p in self.weights if p.ndim < 2]
        groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=config.rate, fused=device.type in ("cpu", "cuda"))
        self.cast = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
        self.figures: list[float] = []
        self.best: dict[str, Tensor] = {}

    def fit(self) -> None:
        """Run all remaining epochs of fine-tuning, write the folder of the fine-tuned encoder, and remove the saved training state.

        Raises:
            CheckpointError: the saved training state is damaged, or weights have become NaN or infinite.
        """
        self.load()
        steps = math.ceil(len(self.train) / self.config.batch_size)
        for epoch in range(len(self.figures), self.config.epochs):
            torch.manual_seed(int(np.random.SeedSequence((self.config.seed, epoch)).generate_state(1, np.uint32)[0]))
            self.model.train()
            title = f"{self.name}: epoch {epoch + 1} of {self.config.epochs}"
            for step, rows in enumerate(Progress(self.order(steps), desc=title, disable=self.quiet, unit="step", leave=False)):
                self.step(rows, epoch * steps + step, self.config.epochs * steps)
            if not all(bool(value.isfinite().all()) for value in self.weights):
                raise CheckpointError(
                    f"{self.name}: weights are NaN or infinite after epoch {epoch + 1}; use a lower --tuning.learning_rate"
                )
            figure = self.judge()
            if not self.figures or figure > max(self.figures) or not self.dev:
                self.best = {name: value.detach().cpu().clone() for name, value in self.model.trained().items()}
            self.figures.append(figure)
            self.save()
        self.finish()

    def order(self, steps: int) -> list[list[int]]:
        """Return the batches of an epoch in random order. A batch is a list of indices of utterances that have similar lengths."""
        size, pool = self.config.batch_size, 16
        mixed = [self.train[i] for i in torch.randperm(len(self.train)).tolist()]
        found = []
        for start in range(0, len(mixed), size * pool):
            alike = sorted(mixed[start : start + size * pool], key=lambda row: len(self.data.ids[row]))
            found += [alike[i : i + size] for i in range(0, len(alike), size)]
        return [found[i] for i in torch.randperm(steps).tolist()]

    def step(self, rows: list[int], step: int, steps: int) -> None:
        """Update the weights once, with the loss of the utterances whose indices are in `rows`.

        The learning rate depends on `step`, the index of this update, and on `steps`, the number of all updates.
        """
        warm = 0.1 * steps
        factor = (step + 1) / warm if step + 1 < warm else (steps - step) / (steps - warm)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.rate * min(1.0, factor)
        loss = self.loss(self.scores(rows), rows)
        loss.backward()
        nn.utils.clip_grad_norm_(self.weights, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def scores(self, rows: list[int]) -> Tensor:
        """Compute the scores of all classes for `n` utterances, as a float32 tensor of shape `(n, number of classes)`."""
        ids, mask = self.data.tokens.pad([self.data.ids[row] for row in rows], self.device)
        with self.cast:
            scores = self.model(ids, mask, self.data.tokens.own(ids, mask))
        return scores.float()

    def loss(self, scores: Tensor, rows: list[int]) -> Tensor:
        """Return the loss: the cross-entropy, or, for a task with numeric scores, the mean absolute error."""
        target = self.data.target[rows].to(self.device)
        return F.cross_entropy(scores, target) if self.data.task.kind == "classification" else F.l1_loss(scores[:, 0], target)

    @torch.no_grad()
    def judge(self) -> float:
        """Compute the metric on the development split: weighted F1, or, for a task with numeric scores, the negative mean absolute error.

        Without a development split, the result is 0.
        """
        if not self.dev:
            return 0.0
        self.model.eval()
        scores = torch.empty(len(self.dev), self.model.classify.out_features)
        for chosen in chunks([len(self.data.ids[row]) for row in self.dev], 4096):
            scores[chosen] = self.scores([self.dev[i] for i in chosen]).cpu()
        target = self.data.target[self.dev]
        if self.data.task.kind == "score":
            return -float((scores[:, 0] - target).abs().mean())
        from sklearn.metrics import f1_score

        return float(f1_score(target.numpy(), scores.argmax(-1).numpy(), average="weighted", zero_division=0))

    def save(self) -> None:
        """Save the training state for `load`: weights, weights of the best epoch, state of the optimizer, and development metrics."""
        tensors = {f"model.{name}": value for name, value in self.model.trained().items()}
        tensors |= {f"best.{name}": value for name, value in self.best.items()}
        for number, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{name}": value for name, value in moments.items()}
        save_tensors(self.state, tensors, {"figures": json.dumps(self.figures)})

    def load(self) -> None:
        """Load the saved training state, if it exists.

        Raises:
            CheckpointError: the saved state is damaged, or belongs to the fine-tuning of another model.
        """
        if not self.state.is_file():
            return
        tensors, metadata = read_part(self.state, self.state)
        try:
            self.model.take(_under("model.", tensors))
            self.best = {name: value.clone() for name, value in _under("best.", tensors).items()}
            if self.best.keys() != self.model.trained().keys():
                raise ValueError("other weights")
            moments: dict[int, dict[str, Tensor]] = {}
            for name, value in _under("optimizer.", tensors).items():
                number, _, kind = name.partition(".")
                moments.setdefault(int(number), {})[kind] = value
            self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
            self.figures = [float(figure) for figure in json.loads(metadata["figures"])]
        except (KeyError, ValueError, RuntimeError, TypeError) as error:
            reason = " ".join(str(error).split())[:120]
            raise CheckpointError(
                f"{self.state}: this file is not the state of this fine-tuning ({reason}); remove the file to begin the fine-tuning again"
            ) from None

    def finish(self) -> None:
        """Write the encoder of the best epoch, or only its low-rank matrices, and remove the saved training state."""
        self.model.take(self.best)
        with atomic_folder(self.folder, BESIDE if self.config.lora else WHOLE) as temporary:
            if self.config.lora:
                save_low_rank(temporary, self.model.encoder, None if self.data.source == Path(self.data.model) else self.data.model)
            else:
                self.model.encoder.config.save_pretrained(temporary)
                save_tensors(temporary / "model.safetensors", self.model.encoder.state_dict(), {"format": "pt"})
                shutil.copyfile(self.data.source / "tokenizer.json", temporary / "tokenizer.json")
            figures = {"development": json.dumps(self.figures)} if self.dev else {}
            save_tensors(temporary / HEAD, dict(self.model.classify.state_dict()), figures)
        self.state.unlink(missing_ok=True)


def _under(stem: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(stem): value for name, value in tensors.items() if name.startswith(stem)}
