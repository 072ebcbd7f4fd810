from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from sklearn.metrics import f1_score

from erc_graph.data.corpus import Corpus
from erc_graph.data.files.storage import load_tensors, save_tensors
from erc_graph.errors import CheckpointError
from erc_graph.features.tuned import TunedEncoder
from erc_graph.features.tuned_files import ABOUT, HEAD
from tests.features.conftest import rows_of

pytest.importorskip("transformers")


def test_it_learns_what_the_words_say(talks: Corpus, fitted: Path, tiny_encoder: Path) -> None:
    rows = rows_of(talks, "test")
    said = TunedEncoder(fitted, output="log-probabilities")([talks.texts[row] for row in rows])
    assert f1_score(talks.target[rows], said.argmax(-1), average="weighted") > 0.9
    torch.testing.assert_close(said.exp().sum(-1), torch.ones(len(rows)))
    features = TunedEncoder(fitted)
    assert features.width == 24 and features([talks.texts[0]]).shape == (1, 24)
    assert features.about["fitted_to"] == "the labels of the training split of talks (28 utterances)"
    assert json.loads(load_tensors(fitted / "all" / HEAD)[1]["development"])[-1] > 0.9
    assert sorted(path.name for path in fitted.iterdir()) == ["all", ABOUT]  # the state of the training is gone


def test_every_training_utterance_goes_through_the_encoder_that_never_saw_its_dialogue(talks: Corpus, crossed: Path) -> None:
    about = json.loads((crossed / ABOUT).read_text())
    held_out = [name for unseen in about["members"].values() for name in unseen]
    assert sorted(held_out) == sorted(talks.splits["train"])  # each in one fold, nobody else in any
    both = TunedEncoder(crossed, output="log-probabilities")
    alone = {}
    for name in about["members"]:
        only = replace_members(crossed, {name: []})
        alone[name] = TunedEncoder(only, output="log-probabilities")
    texts = ["we won !", "really ?", "won hello"]
    for name, unseen in about["members"].items():
        torch.testing.assert_close(both(texts, dialogues=[unseen[0]] * 3), alone[name](texts))
    mean = torch.stack([encoder(texts) for encoder in alone.values()]).mean(0)
    expected = mean.log_softmax(-1)
    torch.testing.assert_close(both(texts, dialogues=[talks.splits["test"][0]] * 3), expected)
    torch.testing.assert_close(both(texts), expected)
    torch.testing.assert_close(both(texts, tokens=1), expected)
    states = [TunedEncoder(replace_members(crossed, {name: []}))(texts) for name in about["members"]]
    torch.testing.assert_close(TunedEncoder(crossed)(texts), torch.stack(states).mean(0))


def replace_members(folder: Path, members: dict[str, list[str]]) -> Path:
    copy = folder.with_name("-".join([folder.name, *members]))
    if not copy.exists():
        shutil.copytree(folder, copy)
        about = json.loads((copy / ABOUT).read_text())
        (copy / ABOUT).write_text(json.dumps({**about, "members": members}))
    return copy


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "expected the format 'erc_graph tuned text encoder' of version 1"),
        ({"version": 2}, "upgrade erc_graph"),
        ({"members": {}}, "incomplete or damaged"),
        ({"members": {"../all": []}}, "incomplete or damaged"),
        ({"members": ["all"]}, "incomplete or damaged"),
    ],
)
def test_foreign_descriptions_are_refused(fitted: Path, tmp_path: Path, change: dict[str, object], message: str) -> None:
    copy = Path(shutil.copytree(fitted, tmp_path / "copy"))
    about = json.loads((copy / ABOUT).read_text())
    (copy / ABOUT).write_text(json.dumps({**about, **change}))
    with pytest.raises(CheckpointError, match=message):
        TunedEncoder(copy)


def test_a_foreign_classifier_is_refused(fitted: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(fitted, tmp_path / "copy"))
    save_tensors(copy / "all" / HEAD, {"weight": torch.zeros(2, 7), "bias": torch.zeros(2)})
    with pytest.raises(CheckpointError, match="expected the weight and the bias of a classifier for vectors of 24 numbers"):
        TunedEncoder(copy)
