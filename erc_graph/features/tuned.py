"""Text encoders that are tuned on single utterances, before any conversation is looked at, and what they say.

What an encoder says of the utterances that it was tuned on is fitted to their labels: a model of conversations that learns on top of it
sees far better features in training than it will ever meet. COSMIC's published features (Ghosal et al., *COSMIC*, Findings of EMNLP 2020)
are of this kind. Cross-fitting avoids it, as in stacked generalisation (Wolpert, Neural Networks 5, 1992): the training dialogues are
divided into `K` folds, `K` encoders are tuned, each without one fold, and every training utterance goes through the encoder that never saw
its dialogue; development and test utterances, which none of them was fitted to, get the mean over all. Repeated with other folds, it gives
every utterance the mean of several encoders, training utterances as well.

The mean is right for class log-probabilities, whose entries mean the same in every encoder. Hidden states of different encoders live in
spaces of their own; still, on IEMOCAP and MELD what five encoders tuned from one pretrained encoder say of unseen utterances is worth more
to a model on top than frozen or fitted states (docs/features.md has the figures), probably because a few epochs move them little.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from erc_graph.data.corpus import Corpus
from erc_graph.data.files.storage import atomic_folder, load_tensors, save_tensors, write_json
from erc_graph.errors import CheckpointError, ConfigError, CorpusError, StorageError, expect
from erc_graph.features.context import Reading, readings
from erc_graph.features.processes import Share, wait_for
from erc_graph.features.text import Pooling, TextEncoder, find_encoder, mean_state, pretrained, token_states
from erc_graph.features.tokens import Tokens, chunks, read_json

FORM, VERSION = "erc_graph tuned text encoder", 1
ABOUT, HEAD, STATE = "tuned.json", "classifier.safetensors", "training.safetensors"
FILES = ("config.json", "model.safetensors", "tokenizer.json", HEAD)
Output = Literal["features", "log-probabilities"]
OUTPUTS: tuple[Output, ...] = ("features", "log-probabilities")


@dataclass(frozen=True, kw_only=True)
class TuningConfig:
    """How a text encoder is tuned.

    Attributes:
        epochs: Passes over the training utterances; the one that is best on the development split is kept.
        batch_size: Utterances per step.
        learning_rate: The highest; it grows from zero in the first tenth of the steps and falls to zero in a line.
        weight_decay: Of AdamW, on matrices alone.
        dropout: In front of the classifier (inside the encoder: as its own files say).
        context: Turns before the utterance that the encoder reads too, as far as its tokens reach.
        seed: Of classifier, order, dropout and folds.
    """

    epochs: int = 3
    batch_size: int = 32
    learning_rate: float = 1e-4
    weight_decay: float = 0.01
    dropout: float = 0.1
    context: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        expect(
            "tuning",
            self,
            epochs=(self.epochs >= 1, "1 or more"),
            batch_size=(self.batch_size >= 1, "1 or more"),
            learning_rate=(0 < self.learning_rate < math.inf, "a number above 0"),
            weight_decay=(self.weight_decay >= 0, "a number of 0 or more"),
            dropout=(0 <= self.dropout < 1, "a number in [0, 1)"),
            context=(self.context >= 0, "0 or more"),
            seed=(0 <= self.seed < 2**63, "a whole number from 0 to 2**63 - 1"),
        )


# -- tuning ----------------------------------------------------------------------------------


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
    precision: Literal["no", "bf16"] = "no",
    share: Share | None = None,
    quiet: bool | None = None,
) -> TunedEncoder:
    """Tune a pretrained encoder on the training split; what is finished in `folder` is taken, what was begun is continued.

    Continuing ends in the same result as never having stopped. Several processes share the encoders of the folds.

    Args:
        corpus: Texts, targets and splits.
        model: See `find_encoder`.
        folder: Where the encoders go; it is a text encoder itself afterwards (`TunedEncoder`).
        config: How.
        cross_fit: Number of folds, 2 or more; 0: a single encoder, fitted to all training dialogues.
        repeats: So many times, each with folds and a start of its own: repeat `r` is what the seed `config.seed + r` gives by itself.
        output: What the encoder says in the end.
        device: Where it computes.
        precision: `bf16`: matrix products in 16 bits.
        share: Which part of several processes this one is.
        quiet: No progress bar; unset: none where standard error is no terminal.

    Raises:
        ConfigError: an impossible number of folds or repeats.
        CorpusError: no texts, no training split, or nothing labelled in it.
        CheckpointError: the folder has encoders with other settings, or of other utterances; a state in it is damaged; or weights
            are not a number.
    """
    share = share or Share()
    if repeats < 1:
        raise ConfigError(f"repeats: expected 1 or more, found {repeats}")
    about = _about(corpus, model, config, cross_fit, precision, repeats)
    if (folder / ABOUT).is_file():
        if _same(folder, about) and share.first:
            write_json(folder / ABOUT, about)
    elif share.first:
        _refuse_foreign(folder)
        write_json(folder / ABOUT, about)
    else:
        wait_for(lambda: (folder / ABOUT).is_file())
    data = _Utterances(corpus, model, config.context)
    for number, (name, held_out) in enumerate(about["members"].items()):
        if number % share.of == share.number and not (folder / name).is_dir():
            seeded = replace(config, seed=config.seed + number // max(cross_fit, 1))
            _Run(data, name, set(held_out), folder, seeded, torch.device(device), precision, quiet).fit()
    wait_for(lambda: all((folder / name).is_dir() for name in about["members"]))
    return TunedEncoder(folder, output=output, device=device, precision=precision)


def _about(corpus: Corpus, model: str, config: TuningConfig, cross_fit: int, precision: str, repeats: int = 1) -> dict[str, Any]:
    """Everything that decides the result, as plain values."""
    if "train" not in corpus.splits:
        raise CorpusError(f"{corpus.name}: expected a training split to tune on; give `splits` in corpus.toml")
    if not any(map(str.strip, corpus.texts)):
        raise CorpusError(f"{corpus.name}: expected texts to tune on, found none")
    train = corpus.split("train")
    labelled = sum(bool(text.strip()) for text, known in zip(train.texts, train.labelled.tolist(), strict=True) if known)
    if not labelled:
        raise CorpusError(f"{corpus.name}: expected labelled utterances in the training split, found none")
    return {
        "format": FORM,
        "version": VERSION,
        "model": model,
        "task": {"name": corpus.task.name, "kind": corpus.task.kind, "labels": list(corpus.task.labels)},
        "fitted_to": f"the labels of the training split of {corpus.name} ({labelled} utterances)",
        "chosen_on": "development split" if "dev" in corpus.splits else "nothing: the last epoch",
        "cross_fit": cross_fit,
        "utterances": _digest(corpus, config.context),
        "members": {
            name if repeat == 0 else f"repeat-{repeat}-{name}": unseen
            for repeat in range(repeats)
            for name, unseen in _members(corpus, cross_fit, config.seed + repeat).items()
        },
        "settings": {**asdict(config), "precision": precision},
    }


def _members(corpus: Corpus, cross_fit: int, seed: int) -> dict[str, list[str]]:
    """Encoder → training dialogues that it never sees, of about as many utterances in every fold."""
    if not cross_fit:
        return {"all": []}
    ids = corpus.splits["train"]
    if not 2 <= cross_fit <= len(ids):
        most = f"2 to {len(ids)} folds (as many as training dialogues), or 0" if len(ids) > 1 else "0, for there is one training dialogue"
        raise ConfigError(f"cross-fit: expected {most}, found {cross_fit}")
    order = np.random.default_rng(seed).permutation(len(ids))
    sizes = corpus.lengths[[corpus.position[ids[i]] for i in order]].numpy()
    fold = np.minimum((sizes.cumsum() - sizes / 2) * cross_fit // sizes.sum(), cross_fit - 1).astype(int)
    fold = fold if len(set(fold.tolist())) == cross_fit else np.arange(len(ids)) % cross_fit  # a dialogue as long as a fold
    return {f"fold-{k}": sorted(ids[i] for i in order[fold == k]) for k in range(cross_fit)}


def _digest(corpus: Corpus, context: int) -> str:
    """Of all that is learned from: names, texts (with what was said before) and targets, training and development split apart."""
    read, found = readings(corpus, context), hashlib.sha256()
    for split in ("train", "dev"):
        rows = corpus.rows(corpus.position[name] for name in corpus.splits.get(split, ())).tolist()
        names = [(corpus.dialogue_ids[int(corpus.dialogue_of[row])], corpus.utterance_ids[row]) for row in rows]
        found.update(json.dumps([split, names, [read[row] for row in rows]]).encode())
        found.update(corpus.target[rows].numpy().tobytes())
    return found.hexdigest()


def _same(folder: Path, wanted: Mapping[str, Any]) -> bool:
    """Whether the folder's encoders are the first ones of the wanted, and more are to come.

    Raises:
        CheckpointError: they are others.
    """
    found, wanted = read_json(folder / ABOUT), json.loads(json.dumps(wanted))
    if not isinstance(found, dict):
        raise CheckpointError(f"{folder / ABOUT}: not what an {FORM} says of itself; remove {folder} to tune anew")
    said = {
        "utterances": "on other dialogues, texts or labels",
        "members": "with other folds, or more of them (--cross-fit, --repeats)",
        "format": "by something else",
    }
    for key, value in wanted.items():
        begun = found.get(key)
        first = key == "members" and isinstance(begun, dict) and bool(begun) and {**value, **begun} == value
        if begun != value and not first:
            raise CheckpointError(
                f"{folder}: was tuned {said.get(key, f'with another {key}')}; choose another folder (--encoders), or remove it"
            )
    return bool(found["members"] != wanted["members"])


def _refuse_foreign(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StorageError(f"{folder}: is not empty; expected a new folder for the tuned encoders")


class _Utterances:
    """Token ids and targets of a corpus."""

    def __init__(self, corpus: Corpus, model: str, context: int) -> None:
        self.source = find_encoder(model)
        self.tokens = Tokens(self.source, read_json(self.source / "config.json"))
        self.ids = self.tokens(readings(corpus, context))[0]
        self.target, self.task = corpus.target, corpus.task
        spoken = torch.tensor([bool(text.strip()) for text in corpus.texts])
        self.usable = corpus.labelled & spoken
        names = [corpus.dialogue_ids[i] for i in corpus.dialogue_of.tolist()]
        self.dialogue = np.asarray(names, dtype=object)
        self.splits = corpus.splits

    def rows(self, split: str, without: set[str]) -> list[int]:
        wanted = set(self.splits.get(split, ())) - without
        return [row for row in self.usable.nonzero()[:, 0].tolist() if self.dialogue[row] in wanted]


class Classified(nn.Module):
    """A pretrained encoder, the mean of the states of the utterance's tokens, and a linear classifier.

    Args:
        folder: Of the pretrained encoder.
        outputs: Number of classes, or 1.
        dropout: In front of the classifier.
    """

    def __init__(self, folder: Path, outputs: int, dropout: float) -> None:
        super().__init__()
        self.encoder = pretrained(folder)
        self.dropout = nn.Dropout(dropout)
        self.classify = nn.Linear(self.encoder.config.hidden_size, outputs)
        nn.init.normal_(self.classify.weight, std=0.02)
        nn.init.zeros_(self.classify.bias)

    def forward(self, ids: Tensor, mask: Tensor, own: Tensor) -> Tensor:
        """Scores `(n, outputs)` of token ids `(n, L)`, which of them are real, and which are the utterance's own."""
        states = self.encoder(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        return self.classify(self.dropout(mean_state(states, own)))


class _Run:
    """The tuning of one encoder, with a state on disk after every epoch."""

    def __init__(
        self,
        data: _Utterances,
        name: str,
        held_out: set[str],
        folder: Path,
        config: TuningConfig,
        device: torch.device,
        precision: str,
        quiet: bool | None,
    ) -> None:
        self.data, self.name, self.config, self.device, self.quiet = data, name, config, device, quiet
        self.folder, self.state = folder / name, folder / f"{name}.{STATE}"
        self.train, self.dev = data.rows("train", held_out), data.rows("dev", set())
        if not self.train:
            raise CorpusError(f"{name}: expected labelled training utterances outside the fold, found none; use fewer folds")
        outputs = len(data.task.labels) if data.task.kind == "classification" else 1
        torch.manual_seed(config.seed)
        self.model = Classified(data.source, outputs, config.dropout).to(device)
        matrices = [p for p in self.model.parameters() if p.ndim > 1]
        others = [p for p in self.model.parameters() if p.ndim < 2]
        groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, fused=device.type in ("cpu", "cuda"))
        self.cast = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
        self.figures: list[float] = []
        self.best: dict[str, Tensor] = {}

    def fit(self) -> None:
        """All epochs that are left; then the encoder's folder appears, complete, and the state goes."""
        self.load()
        steps = math.ceil(len(self.train) / self.config.batch_size)
        for epoch in range(len(self.figures), self.config.epochs):
            torch.manual_seed(int(np.random.SeedSequence((self.config.seed, epoch)).generate_state(1, np.uint32)[0]))
            self.model.train()
            title = f"{self.name}: epoch {epoch + 1} of {self.config.epochs}"
            for step, rows in enumerate(tqdm(self.order(steps), desc=title, disable=self.quiet, unit="step", leave=False)):
                self.step(rows, epoch * steps + step, self.config.epochs * steps)
            if not all(bool(value.isfinite().all()) for value in self.model.parameters()):
                raise CheckpointError(f"{self.name}: weights that are not a number after epoch {epoch + 1}; lower --tuning.learning_rate")
            figure = self.judge()
            if not self.figures or figure > max(self.figures) or not self.dev:
                self.best = {name: value.detach().cpu().clone() for name, value in self.model.state_dict().items()}
            self.figures.append(figure)
            self.save()
        self.finish()

    def order(self, steps: int) -> list[list[int]]:
        """Rows of every step of an epoch: random, but of similar length."""
        size, pool = self.config.batch_size, 16
        mixed = [self.train[i] for i in torch.randperm(len(self.train)).tolist()]
        found = []
        for start in range(0, len(mixed), size * pool):
            alike = sorted(mixed[start : start + size * pool], key=lambda row: len(self.data.ids[row]))
            found += [alike[i : i + size] for i in range(0, len(alike), size)]
        return [found[i] for i in torch.randperm(steps).tolist()]

    def step(self, rows: list[int], step: int, steps: int) -> None:
        warm = 0.1 * steps
        factor = (step + 1) / warm if step + 1 < warm else (steps - step) / (steps - warm)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * min(1.0, factor)
        loss = self.loss(self.scores(rows), rows)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def scores(self, rows: list[int]) -> Tensor:
        ids, mask = self.data.tokens.pad([self.data.ids[row] for row in rows], self.device)
        with self.cast:
            scores = self.model(ids, mask, self.data.tokens.own(ids, mask))
        return scores.float()

    def loss(self, scores: Tensor, rows: list[int]) -> Tensor:
        target = self.data.target[rows].to(self.device)
        return F.cross_entropy(scores, target) if self.data.task.kind == "classification" else F.l1_loss(scores[:, 0], target)

    @torch.no_grad()
    def judge(self) -> float:
        """Weighted F1 on the development split (for scores: the absolute error, negative); 0 where there is none."""
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
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in self.best.items()}
        for number, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{name}": value for name, value in moments.items()}
        save_tensors(self.state, tensors, {"figures": json.dumps(self.figures)})

    def load(self) -> None:
        """Continue from the state on disk, if there is one."""
        if not self.state.is_file():
            return
        tensors, metadata = _kept(self.state, self.state)
        try:
            self.model.load_state_dict(_under("model.", tensors))
            self.best = {name: value.clone() for name, value in _under("best.", tensors).items()}
            moments: dict[int, dict[str, Tensor]] = {}
            for name, value in _under("optimizer.", tensors).items():
                number, _, kind = name.partition(".")
                moments.setdefault(int(number), {})[kind] = value
            self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
            self.figures = [float(figure) for figure in json.loads(metadata["figures"])]
        except (KeyError, ValueError, RuntimeError, TypeError) as error:
            reason = " ".join(str(error).split())[:120]
            raise CheckpointError(f"{self.state}: not the state of this tuning ({reason}); remove it to begin anew") from None

    def finish(self) -> None:
        self.model.load_state_dict(self.best)
        with atomic_folder(self.folder, FILES) as temporary:
            self.model.encoder.config.save_pretrained(temporary)
            save_tensors(temporary / "model.safetensors", self.model.encoder.state_dict(), {"format": "pt"})
            shutil.copyfile(self.data.source / "tokenizer.json", temporary / "tokenizer.json")
            figures = {"development": json.dumps(self.figures)} if self.dev else {}
            save_tensors(temporary / HEAD, dict(self.model.classify.state_dict()), figures)
        self.state.unlink(missing_ok=True)


def _kept(path: Path, whole: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """A file of an encoder; what is to be removed where it is damaged, so that the command makes it again, is the `whole`."""
    try:
        return load_tensors(path)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; remove {whole} and give the command again") from None


def _under(stem: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(stem): value for name, value in tensors.items() if name.startswith(stem)}


# -- what they say ---------------------------------------------------------------------------


class TunedEncoder:
    """Encoders that `tune` left in a folder: the mean of what they say.

    Args:
        folder: With `tuned.json`.
        output: `features`, the mean token state; `log-probabilities` of the classes (for score tasks the score).
        device: Where it computes.
        precision: `bf16`: matrix products in 16 bits.

    Attributes:
        width: Numbers per sentence.
        about: What `tuned.json` says.
        context: Turns before an utterance that it reads too (`erc_graph.features.context`).

    Raises:
        CheckpointError: incomplete, damaged, or not of this form.
    """

    def __init__(
        self, folder: Path, *, output: Output = "features", device: torch.device | str = "cpu", precision: Literal["no", "bf16"] = "no"
    ) -> None:
        self.about = read_json(folder / ABOUT)
        if not isinstance(self.about, dict) or self.about.get("format") != FORM or self.about.get("version") != VERSION:
            raise CheckpointError(f"{folder / ABOUT}: expected an {FORM} of version {VERSION}; upgrade erc_graph")
        self.output, self.device, self.precision = output, torch.device(device), precision
        try:
            self.members = {str(name): frozenset(map(str, unseen)) for name, unseen in self.about["members"].items()}
            self.kind = str(self.about["task"]["kind"])
            self.context = int(self.about["settings"].get("context", 0))
            if any("/" in name or name.startswith(".") for name in self.members) or not self.members:
                raise ValueError("names of encoders")
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(f"{folder / ABOUT}: incomplete or damaged ({str(error)[:100]})") from None
        lacking = [name for name in self.members if not (folder / name).is_dir()]
        if lacking:
            raise CheckpointError(f"{folder}: {', '.join(lacking)} is not tuned to the end; the same `erc-graph features` goes on with it")
        self.states, self.heads = {}, {}
        for name in self.members:
            config = read_json(folder / name / "config.json")
            head = _kept(folder / name / HEAD, folder / name)[0]
            self.states[name], hidden, _ = token_states(folder / name, config, self.device)
            if set(head) != {"weight", "bias"} or head["weight"].shape[1:] != (hidden,):
                raise CheckpointError(f"{folder / name / HEAD}: expected weight and bias of a classifier of {hidden} numbers")
            self.heads[name] = {part: value.to(self.device) for part, value in head.items()}
        self.tokens = Tokens(folder / name, config)
        self.longest = self.tokens.longest
        self.width = hidden if output == "features" else len(head["bias"])

    @torch.no_grad()
    def __call__(self, texts: Sequence[Reading], *, dialogues: Sequence[str] = (), tokens: int = 4096) -> Tensor:
        """Vectors `(n, width)` float32 on the CPU, in the order of the texts.

        Args:
            texts: `n` sentences, with what was said before them where `context` is not zero.
            dialogues: `n` names of their dialogues: one that some encoders were not tuned on while the others were goes through those
                alone. Left out: the mean over all encoders.
            tokens: Most padded tokens in one forward pass.
        """
        ids, _ = self.tokens(texts)
        vectors = torch.zeros(len(texts), self.width)
        fair: dict[str, set[str]] = {}  # dialogue → encoders that never saw it while others did
        for member, unseen in self.members.items():
            for name in unseen:
                fair.setdefault(name, set()).add(member)
        asked = [fair.get(name, self.members.keys()) for name in dialogues] or [self.members.keys()] * len(texts)
        for member in self.members:
            rows = [i for i, those in enumerate(asked) if member in those]
            for chosen in chunks([len(ids[i]) for i in rows], tokens):
                at = [rows[i] for i in chosen]
                shares = torch.tensor([1 / len(asked[i]) for i in at])
                vectors[at] += shares[:, None] * self._ask(member, [ids[i] for i in at])
        if self.output == "log-probabilities" and self.kind == "classification":
            vectors = vectors.log_softmax(-1)  # the mean of log-probabilities sums to less than one
        return vectors

    def _ask(self, member: str, ids: list[list[int]]) -> Tensor:
        padded, mask = self.tokens.pad(ids, self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            states = self.states[member](padded, mask)
        pooled = mean_state(states.float(), self.tokens.own(padded, mask))
        if self.output == "features":
            return pooled.cpu()
        scores = F.linear(pooled, self.heads[member]["weight"], self.heads[member]["bias"])
        return (scores.log_softmax(-1) if self.kind == "classification" else scores).cpu()


def load_text_encoder(name: str, *, device: torch.device | str = "cpu") -> TextEncoder | TunedEncoder:
    """The encoder that a corpus or a model names, with its options behind it.

    Args:
        name: As `find_encoder` has it, or the folder of tuned encoders; then, where they are not the usual ones, a colon and options:
            `NAME:layer=-2,pooling=cls`, `FOLDER:output=log-probabilities`.
        device: Where it computes.

    Raises:
        CheckpointError: not found, its files are incomplete, damaged or of an unknown kind, or an option that it does not have.
    """
    where, options = split_options(name)
    tuned = False
    with suppress(OSError, ValueError):  # a name that no file can have
        tuned = (Path(where) / ABOUT).is_file()
    known = {"output": OUTPUTS} if tuned else {"pooling": tuple(one for one in get_args(Pooling) if one != "frames"), "layer": None}
    for key, value in options.items():
        if key not in known or value not in (known[key] or (value,)):
            raise CheckpointError(f"text encoder {name[:80]!r}: expected options {', '.join(known)}, found {key}={value}")
    chosen: dict[str, Any] = dict(options)
    if tuned:
        return TunedEncoder(Path(where), device=device, **chosen)
    if "layer" in options and not options["layer"].startswith("last4"):
        chosen["layer"] = int(options["layer"])
    return TextEncoder(where, device=device, **chosen)


def split_options(name: str) -> tuple[str, dict[str, str]]:
    """Name and options of an encoder.

    >>> split_options("runs/text.tuned:output=log-probabilities")
    ('runs/text.tuned', {'output': 'log-probabilities'})
    >>> split_options("C:/models/bert")
    ('C:/models/bert', {})
    """
    found = re.fullmatch(r"(.+):((?:[a-z]+=[a-z0-9+-]+,?)+)", name, re.S)
    return (name, {}) if found is None else (found[1], dict(part.split("=") for part in found[2].strip(",").split(",")))


def join_options(name: str, **options: str | int) -> str:
    """The way back of `split_options`.

    >>> join_options("bert", layer=-2), join_options("bert")
    ('bert:layer=-2', 'bert')
    """
    return f"{name}:{','.join(f'{key}={value}' for key, value in options.items())}" if options else name
