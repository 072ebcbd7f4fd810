"""Tokenisation of sentences with the tokenizer of a model, and batches of sentences of similar length."""

from __future__ import annotations

import json
import math
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from erc_graph.data.files.budget import admit, content_of
from erc_graph.errors import CheckpointError, shortened
from erc_graph.features.context import Reading


class Tokens:
    """The tokenizer in the folder of a model (`tokenizer.json`). It is read without the transformers library, which is slow to import.

    Args:
        folder: Folder with `tokenizer.json`, and optionally `tokenizer_config.json` and `sentence_bert_config.json`.
        config: Content of the `config.json` of the model.

    Attributes:
        longest: Largest number of tokens of a sentence, which is the smallest limit in the files of the model.
        closing: Id of the token that the tokenizer adds after a sentence; `None` if the tokenizer adds no such token.

    Raises:
        CheckpointError: `tokenizer.json` is not a regular file, or a limit is not a number or too small for a single word.
    """

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        from tokenizers import Tokenizer

        admit(folder / "tokenizer.json", CheckpointError)
        self.tokenizer = Tokenizer.from_file(os.fspath(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self._one = threading.Lock()  # truncation is a state of the tokenizer, and one encoder may be asked by several threads
        self.padding = int(config.get("pad_token_id") or 0)
        positions = int(config.get("max_position_embeddings") or config.get("n_positions") or 512)
        if config.get("model_type") in OFFSET:  # its first position is the one behind the padding's
            positions -= self.padding + 1
        limits = [positions]
        for file, key in (("sentence_bert_config.json", "max_seq_length"), ("tokenizer_config.json", "model_max_length")):
            limit = read_json(folder / file).get(key) if (folder / file).is_file() else None
            if not (limit is None or (isinstance(limit, int | float) and limit < math.inf)):
                raise CheckpointError(f"{folder / file}: {key}: expected a number of tokens, found {shortened(limit)}")
            limits += [] if limit is None else [int(limit)]
        self.longest = min(limits)
        empty = self.tokenizer.encode("").ids
        if self.longest <= len(empty):
            raise CheckpointError(
                f"{folder}: expected a limit of {len(empty) + 1} tokens or more per text, so that a text has room for a word, "
                f"found a limit of {shortened(self.longest)} in the files of the model"
            )
        self.closing = empty[-1] if len(empty) > 1 else None

    def __call__(self, texts: Sequence[Reading]) -> tuple[list[list[int]], list[int]]:
        """Return the token ids of every text, and the positions of the texts that were cut to `longest` tokens.

        A text can be a pair of an utterance and its preceding utterances. Invalid Unicode characters are replaced.
        """
        most = CHARACTERS * self.longest
        clean = [_valid(text[:most]) if isinstance(text, str) else (_valid(text[0][:most]), _valid(text[1][:most])) for text in texts]
        far = [len(text if isinstance(text, str) else max(text, key=len)) > most for text in texts]
        with self._one:
            ids = [one.ids for i in range(0, len(clean), TEXTS) for one in self.tokenizer.encode_batch_fast(clean[i : i + TEXTS])]
            cut = [i for i, one in enumerate(ids) if len(one) > self.longest or far[i]]
            if cut:
                self.tokenizer.enable_truncation(self.longest)  # keeps the closing token, as cutting the list would not
                for i, one in zip(cut, self.tokenizer.encode_batch_fast([clean[i] for i in cut]), strict=True):
                    ids[i] = one.ids
                self.tokenizer.no_truncation()
        return ids, cut

    def own(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return whether each token belongs to the utterance and not to its context, `(n, L)` bool, for `n` texts of `L` tokens.

        The context consists of preceding utterances. The context comes after the first token with the id `closing`.
        """
        if self.closing is None:
            return mask
        closed = ids == self.closing
        return mask & (closed.cumsum(1) - closed.long() == 0)

    def pad(self, sentences: Sequence[Sequence[int]], device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """Pad the token ids of `n` sentences to the length `L` of the longest sentence.

        The result is the token ids `(n, L)` int64, and the mask of real tokens `(n, L)` bool.
        """
        lengths = torch.tensor([len(one) for one in sentences])
        mask = torch.arange(int(lengths.max())) < lengths[:, None]
        ids = torch.full(mask.shape, self.padding)
        ids[mask] = torch.tensor([token for one in sentences for token in one])
        return ids.to(device), mask.to(device)


CHARACTERS = 100  # per token that is read: the rest of a text is cut off before it is taken apart, which costs time and memory
TEXTS = 256  # that are taken apart at once


def _valid(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


OFFSET = ("roberta", "xlm-roberta", "camembert", "mpnet", "longformer", "data2vec-text")


def chunks(lengths: Sequence[int], budget: int, most: int = 256) -> Iterator[list[int]]:
    """Divide the positions of inputs into groups (chunks) of inputs of similar length, the longest first.

    A group has at most `most` inputs, whose total length including padding is at most `budget`. A longer input forms a group of its own.

    >>> list(chunks([1, 5, 2, 2], budget=6))
    [[1], [2, 3, 0]]
    """
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    start = 0
    while start < len(order):
        size = max(1, min(most, budget // max(1, lengths[order[start]])))
        yield order[start : start + size]
        start += size


def filled_chunks(ids: Sequence[Sequence[int]], budget: int) -> Iterator[list[int]]:
    """Divide the positions of sentences into groups of similar length with `chunks`. Sentences without tokens are left out.

    >>> list(filled_chunks([[7], [], [5, 6]], budget=2))
    [[2], [0]]
    """
    filled = [row for row, one in enumerate(ids) if one]
    return ([filled[i] for i in chosen] for chosen in chunks([len(ids[row]) for row in filled], budget))


def read_json(path: Path, kind: type = dict) -> Any:
    """Read a JSON file of a pretrained model.

    Args:
        path: The file.
        kind: Expected Python type of the content: `dict`, `list`, or `object` for any type.

    Raises:
        CheckpointError: the file is missing, is not a regular file, is not JSON, or has another type.
    """
    try:
        found = json.loads(content_of(path, CheckpointError))
    except CheckpointError:
        raise
    except FileNotFoundError:
        raise CheckpointError(f"{path}: this file is missing; expected the files of a pretrained model") from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not valid JSON or not readable ({str(error)[:120]})") from None
    if not isinstance(found, kind):
        raise CheckpointError(f"{path}: expected a JSON {'object' if kind is dict else 'array'}, found {shortened(found)}")
    return found
