from __future__ import annotations

from dataclasses import replace

import torch

from erc_graph.data.corpus import Corpus
from erc_graph.data.sample.vectors import sample_corpus
from erc_graph.data.statistics import PUBLISHED, check_statistics
from erc_graph.data.tasks import TASKS


def of_size(dialogues: int, utterances: int, *, task: str, target: torch.Tensor, dataset: str) -> Corpus:
    lengths = torch.ones(dialogues, dtype=torch.long)
    lengths[0] += utterances - dialogues
    return Corpus(
        name=dataset,
        task=TASKS[task],
        dialogue_ids=tuple(map(str, range(dialogues))),
        ptr=torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)]),
        utterance_ids=tuple(map(str, range(utterances))),
        speakers=("x",) * utterances,
        target=target,
        provenance={"dataset": dataset},
    )


def test_what_agrees_is_silent():
    counts = PUBLISHED["meld"].labels["meld7"]
    target = torch.cat([torch.full((counts[name],), i) for i, name in enumerate(TASKS["meld7"].labels)])
    assert check_statistics(of_size(1432, 13708, task="meld7", target=target, dataset="meld")) == []


def test_what_differs_is_said():
    target = torch.full((7432,), 2)
    differences = check_statistics(of_size(150, 7432, task="iemocap6", target=target, dataset="iemocap6"))
    assert differences[:2] == [
        "iemocap6: 150 dialogues, the published number is 151",
        "iemocap6: 7432 utterances, the published number is 7433",
    ]
    assert "iemocap6: 7432 utterances labelled neutral, the published number is 1708" in differences
    assert len(differences) == 2 + 6


def test_either_count_of_iemocap_four_is_known():
    for labelled, fine in ((5531, True), (5584, True), (5600, False)):
        target = torch.where(torch.arange(7433) < labelled, 0, -1)
        differences = check_statistics(of_size(151, 7433, task="iemocap4", target=target, dataset="iemocap6"))
        expected = [] if fine else [f"iemocap6: {labelled} labelled utterances for iemocap4, the published number is 5531 or 5584"]
        assert differences == expected


def test_splits_are_counted():
    corpus = of_size(151, 7433, task="iemocap4-merged", target=torch.zeros(7433, dtype=torch.long), dataset="iemocap6")
    differences = check_statistics(replace(corpus, splits={"test": ("0", "1")}))
    assert differences == [
        "iemocap6: 2 dialogues in test, the published number is 31",
        "iemocap6: 7284 utterances in test, the published number is 1623",
    ]


def test_one_file_of_meld_is_compared_with_its_split():
    corpus = of_size(114, 1109, task="meld7", target=torch.zeros(1109, dtype=torch.long), dataset="meld")
    assert check_statistics(replace(corpus, splits={"dev": corpus.dialogue_ids})) == []
    assert check_statistics(replace(corpus, splits={"dev": corpus.dialogue_ids[1:]})) == [
        "meld: 113 dialogues in dev, the published number is 114",
        "meld: 113 utterances in dev, the published number is 1109",
    ]


def test_an_unknown_data_set_has_nothing_to_compare_with():
    assert check_statistics(sample_corpus(dialogues=3)) == []


def test_the_published_numbers_add_up():
    for name, published in PUBLISHED.items():
        for counts in published.labels.values():
            assert sum(counts.values()) == published.utterances, name
        if len(published.splits) == 3:
            assert sum(d for d, _ in published.splits.values()) == published.dialogues
            assert sum(u for _, u in published.splits.values()) == published.utterances
