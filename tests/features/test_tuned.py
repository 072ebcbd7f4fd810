from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from sklearn.metrics import f1_score

from erc_graph.data.corpus import Corpus
from erc_graph.data.files.storage import load_tensors, save_tensors
from erc_graph.data.tasks import TASKS
from erc_graph.errors import CheckpointError, ConfigError, CorpusError, StorageError
from erc_graph.features import tuned as module
from erc_graph.features.processes import Share
from erc_graph.features.text import TextEncoder
from erc_graph.features.tuned import ABOUT, HEAD, TunedEncoder, TuningConfig, load_text_encoder, tune

pytest.importorskip("transformers")
QUICK = TuningConfig(epochs=3, batch_size=8, learning_rate=3e-3)


def rows_of(corpus: Corpus, split: str) -> list[int]:
    rows = corpus.rows(corpus.position[i] for i in corpus.splits[split])
    return [row for row in rows.tolist() if corpus.labelled[row] and corpus.texts[row].strip()]


@pytest.fixture(scope="module")
def fitted(talks: Corpus, tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tuned") / "fitted"
    tune(talks, str(tiny_encoder), folder, QUICK, quiet=True)
    return folder


@pytest.fixture(scope="module")
def crossed(talks: Corpus, tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tuned") / "crossed"
    tune(talks, str(tiny_encoder), folder, QUICK, cross_fit=3, quiet=True)
    return folder


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


def test_the_kept_epoch_is_the_best_on_the_development_split(talks: Corpus, fitted: Path) -> None:
    rows = rows_of(talks, "dev")
    said = TunedEncoder(fitted, output="log-probabilities")([talks.texts[row] for row in rows])
    figures = json.loads(load_tensors(fitted / "all" / HEAD)[1]["development"])
    assert f1_score(talks.target[rows], said.argmax(-1), average="weighted") == pytest.approx(max(figures))


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


def test_a_repeat_is_what_the_next_seed_gives_by_itself(talks: Corpus, tiny_encoder: Path, tmp_path: Path) -> None:
    quick = replace(QUICK, epochs=1)
    twice, first, second = (tmp_path / name for name in ("twice", "first", "second"))
    tune(talks, str(tiny_encoder), twice, quick, cross_fit=2, repeats=2, quiet=True)
    tune(talks, str(tiny_encoder), first, quick, cross_fit=2, quiet=True)
    tune(talks, str(tiny_encoder), second, replace(quick, seed=1), cross_fit=2, quiet=True)
    texts, learnt = ["we won !", "really ?", "won hello"], talks.splits["train"]
    both, *alone = (TunedEncoder(folder) for folder in (twice, first, second))
    assert list(both.members) == ["fold-0", "fold-1", "repeat-1-fold-0", "repeat-1-fold-1"]
    assert set(alone[0].members.values()) != set(alone[1].members.values())  # other folds
    for dialogue in (*learnt, talks.splits["test"][0]):
        expected = sum(encoder(texts, dialogues=[dialogue] * 3) for encoder in alone) / 2
        torch.testing.assert_close(both(texts, dialogues=[dialogue] * 3), expected)
    with pytest.raises(ConfigError, match="repeats: expected 1 or more, found 0"):
        tune(talks, str(tiny_encoder), tmp_path / "none", quick, repeats=0)
    with pytest.raises(CheckpointError, match=r"with other folds, or more of them"):
        tune(talks, str(tiny_encoder), twice, quick, cross_fit=2, quiet=True)


def replace_members(folder: Path, members: dict[str, list[str]]) -> Path:
    copy = folder.with_name("-".join([folder.name, *members]))
    if not copy.exists():
        shutil.copytree(folder, copy)
        about = json.loads((copy / ABOUT).read_text())
        (copy / ABOUT).write_text(json.dumps({**about, "members": members}))
    return copy


def test_a_fold_is_not_trained_on_and_targets_outside_training_do_not_matter(talks: Corpus, crossed: Path, tiny_encoder: Path) -> None:
    """Other labels in the first fold and in the test split: the first encoder is the same to the bit, the others are not."""
    about = json.loads((crossed / ABOUT).read_text())
    changed = talks.target.clone()
    for name in (*about["members"]["fold-0"], *talks.splits["test"]):
        rows = talks.rows([talks.position[name]])
        changed[rows] = torch.where(talks.target[rows] < 0, -1, 1 - talks.target[rows])
    folder = crossed.with_name("changed")
    tune(replace(talks, target=changed), str(tiny_encoder), folder, QUICK, cross_fit=3, quiet=True)
    for name, equal in (("fold-0", True), ("fold-1", False)):
        ours, theirs = (load_tensors(place / name / HEAD)[0]["weight"] for place in (folder, crossed))
        assert torch.equal(ours, theirs) == equal


def test_continuing_equals_never_having_stopped(
    talks: Corpus, fitted: Path, tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge, calls = module._Run.judge, []

    def stop(run: object) -> float:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return judge(run)  # type: ignore[arg-type]

    monkeypatch.setattr(module._Run, "judge", stop)
    with pytest.raises(KeyboardInterrupt):
        tune(talks, str(tiny_encoder), tmp_path / "again", QUICK, quiet=True)
    with pytest.raises(CheckpointError, match="all is not tuned to the end; the same `erc-graph features` goes on with it"):
        TunedEncoder(tmp_path / "again")
    assert (tmp_path / "again" / f"all.{module.STATE}").is_file()
    tune(talks, str(tiny_encoder), tmp_path / "again", QUICK, quiet=True)
    assert len(calls) == 4  # epoch 1; 2, stopped; 2 and 3
    for file in ("model.safetensors", HEAD):
        ours, theirs = (load_tensors(place / "all" / file)[0] for place in (tmp_path / "again", fitted))
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    tune(talks, str(tiny_encoder), tmp_path / "again", QUICK, quiet=True)
    assert len(calls) == 4  # finished: read, not trained


def test_a_damaged_state_is_refused(talks: Corpus, tiny_encoder: Path, tmp_path: Path) -> None:
    (tmp_path / "tuned").mkdir()
    (tmp_path / "tuned" / ABOUT).write_text(json.dumps(module._about(talks, str(tiny_encoder), QUICK, 0, "no")))
    save_tensors(tmp_path / "tuned" / f"all.{module.STATE}", {"model.x": torch.ones(1)}, {"figures": "[]"})
    with pytest.raises(CheckpointError, match=r"not the state of this tuning.*remove it to begin anew"):
        tune(talks, str(tiny_encoder), tmp_path / "tuned", QUICK, quiet=True)


def changed(talks: Corpus, what: str) -> Corpus:
    """Another label, text or split in the training or the development part."""
    train, dev, test = (talks.splits[name] for name in ("train", "dev", "test"))
    target, texts = talks.target.clone(), list(talks.texts)
    row = int(talks.rows([talks.position[dev[0] if "development" in what else train[0]]])[0])
    if "label" in what:
        target[row] = 1 - target[row]
    if "text" in what:
        texts[row] += " !"
    splits = {**talks.splits, "train": (test[0], *train[1:]), "test": (train[0], *test[1:])} if what == "split" else talks.splits
    return replace(talks, target=target, texts=tuple(texts), splits=splits)


@pytest.mark.parametrize("what", ["training label", "training text", "development label", "development text", "split"])
@pytest.mark.parametrize("folds", [0, 3])
def test_encoders_of_other_data_are_not_used(what: str, folds: int, talks: Corpus, fitted: Path, crossed: Path, tiny_encoder: Path) -> None:
    """Else what was a training dialogue then, and is a test dialogue now, would be known to them."""
    folder = crossed if folds else fitted
    with pytest.raises(CheckpointError, match=r"was tuned (on other dialogues, texts or labels|with other folds); choose another folder"):
        tune(changed(talks, what), str(tiny_encoder), folder, QUICK, cross_fit=folds, quiet=True)


def test_other_test_dialogues_do_not_matter(talks: Corpus, fitted: Path, tiny_encoder: Path) -> None:
    tune(replace(talks, splits={**talks.splits, "test": talks.splits["test"][1:]}), str(tiny_encoder), fitted, QUICK, quiet=True)


def test_more_repeats_go_on_and_fewer_are_refused(talks: Corpus, crossed: Path, tiny_encoder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(crossed, tmp_path / "tuned"))
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("fold-*/model.safetensors")}
    encoder = tune(talks, str(tiny_encoder), folder, QUICK, cross_fit=3, repeats=2, quiet=True)
    assert len(encoder.members) == 6
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    with pytest.raises(CheckpointError, match=r"was tuned with other folds, or more of them \(--cross-fit, --repeats\)"):
        tune(talks, str(tiny_encoder), folder, QUICK, cross_fit=3, quiet=True)


def test_weights_that_are_not_a_number_are_not_kept(talks: Corpus, tiny_encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"all: weights that are not a number after epoch 1; lower --tuning\.learning_rate"):
        tune(talks, str(tiny_encoder), tmp_path / "t", replace(QUICK, learning_rate=1e30), quiet=True)
    assert not (tmp_path / "t" / "all").exists()


@pytest.mark.parametrize("what", ["state", "classifier", "about"])
def test_what_is_damaged_and_what_to_do(what: str, talks: Corpus, fitted: Path, tiny_encoder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(fitted, tmp_path / "tuned"))
    if what == "state":
        shutil.rmtree(folder / "all")
        (folder / f"all.{module.STATE}").write_bytes(b"half")
        remedy = rf"all\.{module.STATE} and give the command again"
    elif what == "classifier":
        (folder / "all" / HEAD).write_bytes(b"half")
        remedy = r"tuned/all and give the command again"
    else:
        (folder / ABOUT).write_text("[]")
        remedy = r"tuned to tune anew"
    with pytest.raises(CheckpointError, match=f"remove .*{remedy}"):
        tune(talks, str(tiny_encoder), folder, QUICK, quiet=True)


def test_processes_share_the_folds(talks: Corpus, crossed: Path, tiny_encoder: Path, tmp_path: Path) -> None:
    """The second of two takes fold 1; the first, which here comes later, the others, and finds that one done."""
    (tmp_path / "tuned").mkdir()
    shutil.copyfile(crossed / ABOUT, tmp_path / "tuned" / ABOUT)
    trained: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "wait_for", lambda done: None)
        patch.setattr(module, "TunedEncoder", lambda *_, **__: None)
        patch.setattr(module._Run, "fit", lambda run: trained.append(run.name))
        tune(talks, str(tiny_encoder), tmp_path / "tuned", QUICK, cross_fit=3, share=Share(1, 2), quiet=True)
        assert trained == ["fold-1"]
        tune(talks, str(tiny_encoder), tmp_path / "tuned", QUICK, cross_fit=3, share=Share(0, 2), quiet=True)
        assert trained == ["fold-1", "fold-0", "fold-2"]


def test_a_score_task(talks: Corpus, tiny_encoder: Path, tmp_path: Path) -> None:
    target = torch.where(talks.target < 0, torch.nan, talks.target * 4.0 - 2)
    scored = replace(talks, task=TASKS["sentiment"], target=target)
    encoder = tune(scored, str(tiny_encoder), tmp_path / "s", replace(QUICK, epochs=8), output="log-probabilities", quiet=True)
    rows = rows_of(talks, "test")
    said = encoder([talks.texts[row] for row in rows])
    assert said.shape == (len(rows), 1) and (said[:, 0] - target[rows]).abs().mean() < 1


def test_without_a_development_split_the_last_epoch_is_kept(talks: Corpus, tiny_encoder: Path, tmp_path: Path) -> None:
    plain = replace(talks, splits={"train": talks.splits["train"]})
    encoder = tune(plain, str(tiny_encoder), tmp_path / "t", replace(QUICK, epochs=1), quiet=True)
    assert encoder.about["chosen_on"] == "nothing: the last epoch"


def test_what_cannot_be_tuned(talks: Corpus, fitted: Path, tiny_encoder: Path, tmp_path: Path) -> None:
    model, new = str(tiny_encoder), tmp_path / "new"
    with pytest.raises(CorpusError, match="expected a training split to tune on"):
        tune(replace(talks, splits={}), model, new, QUICK)
    with pytest.raises(CorpusError, match="expected texts to tune on, found none"):
        tune(replace(talks, texts=()), model, new, QUICK)
    with pytest.raises(CorpusError, match="expected labelled utterances in the training split, found none"):
        tune(replace(talks, target=torch.full_like(talks.target, -1)), model, new, QUICK)
    with pytest.raises(ConfigError, match="expected 2 to 14 folds"):
        tune(talks, model, new, QUICK, cross_fit=15)
    few = talks.target.clone()
    few[talks.rows(talks.position[i] for i in talks.splits["train"][1:])] = -1
    with pytest.raises(CorpusError, match="expected labelled training utterances outside the fold, found none; use fewer folds"):
        tune(replace(talks, target=few), model, new, QUICK, cross_fit=2, quiet=True)
    with pytest.raises(CheckpointError, match="was tuned with another settings; choose another folder"):
        tune(talks, model, fitted, replace(QUICK, seed=1))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    with pytest.raises(StorageError, match="is not empty; expected a new folder for the tuned encoders"):
        tune(talks, model, tmp_path / "full", QUICK)
    with pytest.raises(ConfigError, match="cross-fit: expected 0, for there is one training dialogue, found 2"):
        tune(replace(talks, splits={**talks.splits, "train": talks.splits["train"][:1]}), model, new, QUICK, cross_fit=2)
    with pytest.raises(ConfigError, match=r"tuning.seed: expected a whole number from 0 to 2\*\*63 - 1"):
        TuningConfig(seed=2**63)
    with pytest.raises(ConfigError, match=r"tuning.learning_rate: expected a number above 0, found inf"):
        TuningConfig(learning_rate=float("inf"))
    with pytest.raises(ConfigError, match=r"tuning.epochs: expected 1 or more, found 0\ntuning.dropout: expected a number in"):
        TuningConfig(epochs=0, dropout=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "expected an erc_graph tuned text encoder of version 1"),
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
    with pytest.raises(CheckpointError, match="expected weight and bias of a classifier of 24 numbers"):
        TunedEncoder(copy)


def test_the_launcher_says_who_one_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert Share.of_launcher() == Share(0, 1, 0) and Share().first
    monkeypatch.setattr(os, "environ", {**os.environ, "RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"})
    assert Share.of_launcher() == Share(3, 4, 1) and not Share.of_launcher().first


def test_an_encoder_by_name_is_a_tuned_one_or_another(fitted: Path, tiny_encoder: Path, tmp_path: Path) -> None:
    assert isinstance(load_text_encoder(str(tiny_encoder)), TextEncoder)
    for name, width in ((str(fitted), 24), (f"{fitted}:output=log-probabilities", 2)):
        encoder = load_text_encoder(name)
        assert isinstance(encoder, TunedEncoder) and encoder.width == width
    (tmp_path / ABOUT).write_text("{}")
    with pytest.raises(CheckpointError, match="expected an erc_graph tuned text encoder"):
        load_text_encoder(str(tmp_path))
    with pytest.raises(CheckpointError, match="no such folder, and no name of a model"):
        load_text_encoder("x" * 5000 + ":layer=-1")
    encoder = load_text_encoder(f"{tiny_encoder}:layer=1,pooling=cls")
    expected = TextEncoder(str(tiny_encoder), pooling="cls", layer=1)
    torch.testing.assert_close(encoder(["we won !"]), expected(["we won !"]))
    for name in (f"{fitted}:layer=1", f"{fitted}:output=logits", f"{tiny_encoder}:pooling=max", f"{tiny_encoder}:output=features"):
        with pytest.raises(CheckpointError, match=r"expected options (output|pooling, layer), found"):
            load_text_encoder(name)
