"""Shared fixtures: a fixed seed, small threads, where real corpora are, and which tests the default run leaves out."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from erc_graph.data.corpus import Corpus
from erc_graph.data.ragged import Ragged
from erc_graph.data.tasks import Task

DATA = Path(os.environ.get("ERC_GRAPH_DATA", "no-corpora"))
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job starts without: no Ctrl-C would ever arrive


def pytest_configure(config: pytest.Config) -> None:
    """Laws build the cases that the run asks for, and no others (`tests/laws/cases.py`)."""
    os.environ["PYTEST_CHOSEN"], os.environ["PYTEST_KEYWORD"] = config.getoption("-m"), config.getoption("-k")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    chosen = config.getoption("-m")
    for item in items:
        if "slow" in item.keywords and "slow" not in chosen:
            item.add_marker(pytest.mark.skip(reason="slow: run with -m slow"))
        if "gpu" in item.keywords and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))
        if "corpus" in item.keywords and not DATA.is_dir():
            item.add_marker(pytest.mark.skip(reason="no real corpora; set ERC_GRAPH_DATA"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say over how many cases the laws held: methods with options, modalities and settings."""
    from erc_graph.methods import METHODS

    passed = [report.nodeid for report in terminalreporter.stats.get("passed", []) if "tests/laws/" in report.nodeid]
    names = {name.partition("[")[2] for name in passed}
    cases = {name.rstrip("]").removesuffix("-blocks") for name in names if name.partition(":")[0] in METHODS}
    if cases:
        methods = {name.partition(":")[0] for name in cases}
        terminalreporter.write_line(f"laws: {len(passed)} checks passed over {len(cases)} cases of {len(methods)} methods")


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(0)


def as_sequences(corpus: Corpus) -> Corpus:
    """The corpus with one to three frames around each vector in its place; no frame where there is no vector."""
    random = torch.Generator().manual_seed(0)
    sequences = {}
    for name, vectors in corpus.features.items():
        lengths = torch.where(corpus.present[name], torch.randint(1, 4, (corpus.utterances,), generator=random), 0)
        rows = torch.repeat_interleave(vectors, lengths, 0)
        frames = rows + 0.1 * torch.randn(rows.shape, generator=random)
        sequences[name] = Ragged(frames, torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]))
    return replace(corpus, features={}, present={}, sequences=sequences)


@pytest.fixture(scope="session")
def readable() -> Callable[[Corpus, str], Corpus]:
    """A corpus of vectors in a form that a method reads."""
    from erc_graph.methods import METHODS

    return lambda corpus, method: corpus if "features" in METHODS[method].reads else as_sequences(corpus)


@pytest.fixture
def data_folder() -> Path:
    """Folder of real corpora (only for tests marked `corpus`)."""
    return DATA


_WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "hello", "there", "we", "won", "!", "?", "really", "you", "are", "joking", "##s"]


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A randomly initialised BERT with a tokenizer of a few words, as sentence-transformers lays it out."""
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    folder = tmp_path_factory.mktemp("tiny-encoder")
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(_WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(_WORDS), hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40, max_position_embeddings=32
    )
    transformers.BertModel(config).save_pretrained(folder)
    kinds = ("Transformer", "Pooling", "Normalize")
    (folder / "modules.json").write_text(json.dumps([{"type": f"sentence_transformers.models.{kind}"} for kind in kinds]))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}))
    return folder


_SAID = {"joy": ("we won !", "won won !", "we won hello"), "surprise": ("really ?", "you are joking ?", "really joking ?")}


@pytest.fixture(scope="session")
def talks() -> Corpus:
    """Dialogues of four turns whose words tell the emotion; the last one of each dialogue is unlabelled, the third one has no words."""
    generator = torch.Generator().manual_seed(1)
    target, texts = [], []
    for _ in range(24):
        for turn in range(4):
            label = int(torch.randint(2, (), generator=generator))
            which = int(torch.randint(3, (), generator=generator))
            texts.append("  " if turn == 2 else list(_SAID.values())[label][which])
            target.append(-1 if turn == 3 else label)
    names = tuple(f"d{i}" for i in range(24))
    corpus = Corpus(
        name="talks",
        task=Task(name="two", labels=tuple(_SAID)),
        dialogue_ids=names,
        ptr=torch.arange(25) * 4,
        utterance_ids=tuple(f"{name}_{turn}" for name in names for turn in range(4)),
        speakers=("a", "b") * 48,
        texts=tuple(texts),
        target=torch.tensor(target),
        splits={"train": names[:14], "dev": names[14:18], "test": names[18:]},
    )
    labels = tuple(None if value < 0 else corpus.task.labels[value] for value in target)
    return replace(corpus, annotations={"label": labels})
