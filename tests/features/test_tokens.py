from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erc_graph.errors import CheckpointError
from erc_graph.features.tokens import Tokens, chunks, read_json


def config(folder: Path, **changes: object) -> dict[str, object]:
    return {**json.loads((folder / "config.json").read_text()), **changes}


def test_the_smallest_limit_holds(tiny_encoder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_encoder, tmp_path / "encoder"))
    assert Tokens(folder, config(folder)).longest == 32
    assert Tokens(folder, config(folder, model_type="roberta", pad_token_id=1)).longest == 30  # its positions begin behind the padding's
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 20}')
    assert Tokens(folder, config(folder)).longest == 20
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 8}')
    tokens = Tokens(folder, config(folder))
    ids, cut = tokens(["we won", "we won we won we won we won", "zzz \ud800"])
    assert (tokens.longest, cut) == (8, [1]) and [len(one) for one in ids] == [4, 8, 4]
    assert ids[1][0] == 2 and ids[1][-1] == 3  # [CLS] and [SEP] stay


def test_what_is_far_behind_the_limit_is_not_taken_apart(tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = Tokens(tiny_encoder, config(tiny_encoder))
    texts = ["we won", "we won " * 40, "won" + " " * 10_000 + "we"]
    whole = Tokens(tiny_encoder, config(tiny_encoder))(texts[:2])
    ids, cut = tokens(texts)
    assert ids[:2] == whole[0] and cut == [1, 2] and len(ids[2]) == 3  # 3200 characters for 32 tokens
    seen = []

    class Watched:
        def __getattr__(self, name: str) -> object:
            return getattr(inner, name)

        def encode_batch_fast(self, given: list[str]) -> object:
            seen.append((len(given), max(map(len, given))))
            return inner.encode_batch_fast(given)

    inner = tokens.tokenizer
    monkeypatch.setattr(tokens, "tokenizer", Watched())
    tokens(["[" * 100_000] * 300)
    assert seen[:2] == [(256, 3200), (44, 3200)]


def test_padding_is_the_models_own(tiny_encoder: Path) -> None:
    ids, mask = Tokens(tiny_encoder, config(tiny_encoder, pad_token_id=7)).pad([[2, 3], [2, 4, 3]])
    assert ids.tolist() == [[2, 3, 7], [2, 4, 3]] and mask.tolist() == [[True, True, False], [True, True, True]]


@given(st.lists(st.integers(0, 60), max_size=40), st.integers(1, 100))
def test_chunks_hold_everything_once_and_no_more_than_the_budget(lengths: list[int], budget: int) -> None:
    found = list(chunks(lengths, budget))
    assert sorted(i for chunk in found for i in chunk) == list(range(len(lengths)))
    assert all(len(chunk) == 1 or len(chunk) * max(lengths[i] for i in chunk) <= budget for chunk in found)


def test_files_that_are_no_json(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="missing; expected the files of a pretrained model"):
        read_json(tmp_path / "config.json")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="not valid JSON"):
        read_json(tmp_path / "config.json")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    for name in ("tokenizer.json", "config.json"):
        os.mkfifo(tmp_path / name)
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: expected a regular file, found a named pipe"):
        Tokens(tmp_path, {})
    with pytest.raises(CheckpointError, match=r"config\.json: expected a regular file, found a named pipe"):
        read_json(tmp_path / "config.json")
