from __future__ import annotations

from pathlib import Path

from starter.joined import EMORYNLP, GOEMOTIONS, classes, of_task, thinned, training_corpus

FIVE = ["anger", "fear", "joy", "neutral", "sadness"]


def test_both_corpora_are_one_with_seven_labels_and_without_test_splits(goemotions: Path, emorynlp: Path) -> None:
    joined = training_corpus(str(goemotions), str(emorynlp), ())
    corpus = joined.corpus
    assert corpus.task.name == "ekman7" and {*corpus.splits} == {"train", "dev"}
    assert [len(joined.dialogues(name, split)) for name in (GOEMOTIONS, EMORYNLP) for split in ("train", "dev")] == [7, 7, 2, 2]
    assert len(corpus) == len(joined.origin) == 18  # a comment with two emotions is none
    assert corpus.utterances == 14 + 4 * 7
    said = {text: label for dialogue in corpus for text, label in zip(dialogue.texts, dialogue.labels, strict=True)}
    assert said["this is disgust of train"] == "disgust"
    scene = {"Joyful": "joy", "Mad": "anger", "Sad": "sadness", "Scared": "fear", "Neutral": "neutral"}
    assert {name: said[f"I say in scene 1 of train that this is {name}"] for name in scene} == scene
    assert said["I say in scene 2 of dev that this is Peaceful"] is said["I say in scene 2 of dev that this is Powerful"] is None
    assert not any("of test" in text for text in corpus.texts)


def test_an_utterance_goes_with_the_classes_that_its_annotators_had(goemotions: Path, emorynlp: Path) -> None:
    joined = training_corpus(str(goemotions), str(emorynlp), ())
    labels = joined.corpus.task.labels
    for place, name in enumerate(joined.origin):
        rows = joined.corpus.rows([place])
        there = [[label for label, one in zip(labels, row, strict=True) if one] for row in joined.offered[rows].tolist()]
        assert there == [list(labels) if name == GOEMOTIONS else FIVE] * len(rows)
    assert classes(of_task(str(emorynlp))).sum() == 5


def test_listed_scenes_are_left_out(goemotions: Path, emorynlp: Path) -> None:
    joined = training_corpus(str(goemotions), str(emorynlp), {"s01_e04_c02", "s02_e04_c01"})
    kept = [name for name in joined.corpus.dialogue_ids if name.startswith(EMORYNLP)]
    assert kept == ["emorynlp:s01_e04_c01", "emorynlp:s02_e04_c02"]


def test_thinning_leaves_out_training_comments_alone(goemotions: Path, emorynlp: Path) -> None:
    joined = training_corpus(str(goemotions), str(emorynlp), ())
    less = thinned(joined, 3)
    assert [len(less.dialogues(name, split)) for name in (GOEMOTIONS, EMORYNLP) for split in ("train", "dev")] == [3, 7, 2, 2]
    for place, name in enumerate(less.corpus.dialogue_ids):
        before = joined.corpus.position[name]
        assert less.origin[place] == joined.origin[before]
        assert less.offered[less.corpus.rows([place])].equal(joined.offered[joined.corpus.rows([before])])
