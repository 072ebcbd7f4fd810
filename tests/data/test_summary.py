from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import torch

from erc_graph.data.ragged import Ragged
from erc_graph.data.sample.raw import sample_raw_corpus
from erc_graph.data.sample.vectors import sample_corpus
from erc_graph.data.summary import summarise, summary_html
from erc_graph.data.tasks import get_task


def test_counts_are_those_of_a_loop() -> None:
    corpus = sample_corpus(dialogues=20, seed=2)
    target = corpus.target.clone()
    target[::7] = -1
    corpus = replace(corpus, target=target)
    page = summarise(corpus)
    for name, counts in page["labels"].items():
        for part, found in counts.items():
            chosen = corpus if part == "all" else corpus.split(part)
            assert found == sum(label == name for dialogue in chosen for label in dialogue.labels)
    assert page["labelled"] == sum(label is not None for dialogue in corpus for label in dialogue.labels)
    lengths = [len(dialogue) for dialogue in corpus]
    assert (page["turns"]["min"], page["turns"]["max"]) == (min(lengths), max(lengths))
    for name, part in page["modalities"].items():
        assert part["missing"] == sum(not here for here in corpus.present[name].tolist())
        assert part["missing_share"] == pytest.approx(part["missing"] / corpus.utterances)
    json.dumps(page, allow_nan=False)


def test_sequences_are_measured() -> None:
    corpus = sample_raw_corpus(dialogues=4)
    page = summarise(corpus)["sequences"]
    assert [part["item"] for part in page.values()] == [[32], [], [3, 32, 32]]
    assert [part["type"] for part in page.values()] == ["float32", "float32", "uint8"]
    for name, part in page.items():
        sizes = corpus.sequences[name].sizes
        there = sorted(size for size in sizes if size)
        assert part["items"] == sum(sizes) and part["missing"] == sizes.count(0) and part["extractor"] is None
        assert part["missing_share"] == pytest.approx(part["missing"] / corpus.utterances)
        assert part["lengths"] == {"min": there[0], "median": there[(len(there) - 1) // 2], "max": there[-1]}
    json.dumps(page, allow_nan=False)
    text = summary_html(corpus)
    assert "visual sequences of 3×32×32" in text and "no features" not in text
    empty = replace(corpus, sequences={"audio": Ragged(torch.zeros(0), torch.zeros(corpus.utterances + 1, dtype=torch.long))})
    assert summarise(empty)["sequences"]["audio"]["lengths"] == {}


def test_scores_are_counted_by_rounded_value() -> None:
    corpus = sample_corpus(dialogues=3)
    target = torch.zeros(corpus.utterances)
    target[:4] = torch.tensor([-2.6, 5.0, float("nan"), 0.6])
    page = summarise(replace(corpus, task=get_task("sentiment"), target=target, splits={}))
    assert {name: counts["all"] for name, counts in page["labels"].items()} == {
        "-3": 1, "-2": 0, "-1": 0, "0": corpus.utterances - 4, "+1": 1, "+2": 0, "+3": 1,
    }  # fmt: skip
    assert page["labelled"] == corpus.utterances - 1


def test_published_sizes_are_compared() -> None:
    corpus = sample_corpus(dialogues=3)
    known = replace(corpus, provenance={"dataset": "mosi", "notes": ["a note"]})
    page = summarise(known)
    assert page["published"] and "published number is 93" in page["published"][0] and page["notes"] == ["a note"]
    assert summarise(corpus)["published"] is None


def test_a_notebook_shows_it_and_runs_nothing() -> None:
    corpus = sample_corpus(dialogues=3)
    hostile = "<script>alert(1)</script>"
    task = replace(corpus.task, name=hostile, labels=(hostile, *corpus.task.labels[1:]))
    text = replace(corpus, name=hostile, task=task)._repr_html_()
    tags: list[str] = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, _: tags.append(tag)  # type: ignore[method-assign]
    parser.feed(text)
    assert "script" not in tags and "table" in tags and f"{corpus.utterances} utterances" in text
    assert summary_html(replace(corpus, target=torch.full_like(corpus.target, -1)))
