"""The output of fine-tuned text encoders. With cross-fitting, the output is a mean over several encoders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from erc_graph.errors import CheckpointError
from erc_graph.features.context import Reading
from erc_graph.features.cross_fitting import unseen_by
from erc_graph.features.low_rank import States, low_rank_states, read_low_rank
from erc_graph.features.model_config import model_config, reading_model
from erc_graph.features.pretrained import Precision, Quantize
from erc_graph.features.text import mean_state, token_states
from erc_graph.features.tokens import Tokens, chunks, read_json
from erc_graph.features.tuned_files import ABOUT, FORM, HEAD, VERSION, find_base, read_part

Output = Literal["features", "log-probabilities"]
OUTPUTS: tuple[Output, ...] = ("features", "log-probabilities")


class TunedEncoder:
    """The text encoders that `tune` wrote to a folder, used as one text encoder. The output is the mean over the encoders.

    Args:
        folder: Folder with `tuned.json`.
        output: `features`: the mean token state. `log-probabilities`: the log-probabilities of the classes; for a score task, the score.
        device: Device of the computation.
        precision: Precision of matrix products: `bf16` (16 bits) or `no` (32 bits).

    Attributes:
        width: Width of the vector of a sentence.
        about: Content of `tuned.json`.
        context: Number of preceding utterances in the input of the encoder (`erc_graph.features.context`).

    Raises:
        CheckpointError: the folder is incomplete, damaged or of another format, or the encoder for low-rank matrices cannot be found.
        ConfigError: the low-rank matrices belong to an encoder that is not a BERT, and the library peft is not installed.
    """

    def __init__(
        self, folder: Path, *, output: Output = "features", device: torch.device | str = "cpu", precision: Precision = "no"
    ) -> None:
        self.about = read_json(folder / ABOUT, object)
        if not isinstance(self.about, dict) or self.about.get("format") != FORM or self.about.get("version") != VERSION:
            raise CheckpointError(
                f"{folder / ABOUT}: expected the format {FORM!r} of version {VERSION}, found another format or version; upgrade erc_graph"
            )
        self.output, self.device, self.precision = output, torch.device(device), precision
        try:
            self.members = {str(name): frozenset(map(str, unseen)) for name, unseen in self.about["members"].items()}
            self.kind = str(self.about["task"]["kind"])
            self.context = int(self.about["settings"].get("context", 0))
            lora, quantize = int(self.about["settings"].get("lora", 0)), self.about["settings"].get("quantize", "no")
            if quantize not in get_args(Quantize) or (lora and not {"model", "revision"} <= self.about.keys()):
                raise ValueError("the settings of the fine-tuned encoder are incomplete or unknown")
            if any("/" in name or name.startswith(".") for name in self.members) or not self.members:
                raise ValueError("the names of the fine-tuned encoders are missing or not allowed")
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(f"{folder / ABOUT}: incomplete or damaged ({str(error)[:100]})") from None
        lacking = [name for name in self.members if not (folder / name).is_dir()]
        if lacking:
            raise CheckpointError(
                f"{folder}: the fine-tuning of {', '.join(lacking)} is not finished; repeat the same `erc-graph features` command "
                "to continue"
            )
        self.states: dict[str, States] = {}
        self.heads: dict[str, dict[str, Tensor]] = {}
        if lora:
            base = find_base(folder, self.about)
            config = model_config(base)
            tuned = {name: read_low_rank(folder / name) for name in self.members}
            with reading_model(base):
                self.states, hidden = low_rank_states(base, config, tuned, self.device, precision, quantize)
        for name in self.members:
            if not lora:
                base = folder / name
                config = model_config(base)
                with reading_model(base):
                    self.states[name], hidden, _ = token_states(base, config, self.device)
            head = read_part(folder / name / HEAD, folder / name)[0]
            if set(head) != {"weight", "bias"} or head["weight"].shape[1:] != (hidden,):
                raise CheckpointError(
                    f"{folder / name / HEAD}: expected the weight and the bias of a classifier for vectors of {hidden} numbers, found "
                    "other tensors"
                )
            self.heads[name] = {part: value.to(self.device) for part, value in head.items()}
        with reading_model(base):
            self.tokens = Tokens(base, config)
        self.longest = self.tokens.longest
        self.width = hidden if output == "features" else len(head["bias"])

    @torch.no_grad()
    def __call__(self, texts: Sequence[Reading], *, dialogues: Sequence[str] = (), tokens: int = 1024) -> Tensor:
        """Compute the vectors `(n, width)` of texts, float32 on the CPU.

        Args:
            texts: `n` sentences; if `context` is not zero, pairs of a sentence and its preceding utterances.
            dialogues: Ids of the dialogues of the `n` sentences. With cross-fitting, a training dialogue is encoded only by the encoders
                that were not trained on the dialogue. Default: the result is the mean over all encoders.
            tokens: Largest number of tokens in one forward pass, including padding.
        """
        ids, _ = self.tokens(texts)
        vectors = torch.zeros(len(texts), self.width)
        fair = unseen_by(self.members)
        asked = [fair.get(name, self.members.keys()) for name in dialogues] or [self.members.keys()] * len(texts)
        for member in self.members:
            rows = [i for i, those in enumerate(asked) if member in those and ids[i]]
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
