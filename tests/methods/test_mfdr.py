"""MFDR whole: what stands in for what, cuts, switches of its Table 3, and the laws of a pipeline from sequences."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from erc_graph.data.batch import Batch
from erc_graph.data.corpus import Corpus
from erc_graph.data.ragged import Ragged
from erc_graph.data.tasks import Task
from erc_graph.encoders.sawa import windows_of
from erc_graph.errors import ConfigError
from erc_graph.inference.graphs import operators
from erc_graph.inference.pipeline import Pipeline
from erc_graph.methods.conversation import ConversationConfig
from erc_graph.methods.mfdr import MFDR, DfcConfig, GcpuConfig, MFDRConfig, SawaConfig
from erc_graph.methods.prior import PriorConfig
from erc_graph.methods.schema import Schema
from erc_graph.training.config import TrainingConfig
from erc_graph.training.loop import fit
from tests.methods.rows import Row, changed, rows_of

THREE = Task(name="three", labels=("sad", "angry", "happy"))
WORDS = (3, 5, 0, 1, 9, 4, 0, 2, 6)
FRAMES = (14, 0, 25, 8, 1, 30, 0, 12, 5)


def little(**changes: Any) -> MFDRConfig:
    values = {
        "width": 8, "hidden": 8, "words": 12, "frames": 40, "gcpu": GcpuConfig(width=6, heads=2), "dfc": DfcConfig(middle=4),
        "conversation": ConversationConfig(width=8),
    }  # fmt: skip
    return MFDRConfig(**{**values, **changes})


def make_corpus(item: tuple[int, ...] = (6,), seed: int = 0) -> Corpus:
    """Two conversations; utterance 2 has no words, 1 no frames, 6 neither."""
    random = torch.Generator().manual_seed(seed)
    words = Ragged.of([torch.randn(n, 5, generator=random) for n in WORDS])
    frames = Ragged.of([torch.randn(n if item else 160 * n, *item, generator=random) for n in FRAMES])
    return Corpus(
        name="talk", task=THREE, dialogue_ids=("one", "two"), ptr=torch.tensor([0, 5, 9]), utterance_ids=tuple("abcdefghi"),
        speakers=tuple("ABABAABAB"), target=torch.tensor([0, 1, 2, -1, 1, 0, 2, 1, 0]), texts=("and so on",) * 9,
        sequences={"audio": frames, "text": words},
    )  # fmt: skip


def make(corpus: Corpus, config: MFDRConfig | None = None) -> tuple[MFDR, Batch]:
    torch.manual_seed(1)
    method = MFDR(Schema.of(corpus, reads=MFDR.reads), config or little())
    batch = method.schema.batch(corpus)
    method.fit_inputs(batch)
    return method.eval(), batch


def without(corpus: Corpus, name: str) -> Corpus:
    return replace(corpus, sequences={key: value for key, value in corpus.sequences.items() if key != name})


# -- laws ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("item", [(6,), (), (3, 8, 8)], ids=str)
@pytest.mark.parametrize("graph", ["speaker", "none"])
def test_alone_as_in_company_in_any_order_and_any_chunks(graph: str, item: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = make_corpus(item)
    method, batch = make(corpus, little(graph=graph))
    whole = method(batch).scores
    assert whole.shape == (9, 3) and whole.isfinite().all()
    turned = method(batch.select(torch.tensor([1, 0]))).scores
    torch.testing.assert_close(torch.cat([turned[4:], turned[:4]]), whole, rtol=1e-4, atol=1e-5)
    alone = torch.cat([method(batch.select(torch.tensor([i]))).scores for i in (0, 1)])
    torch.testing.assert_close(alone, whole, rtol=1e-4, atol=1e-5)
    for tokens in (1, 60):
        monkeypatch.setattr("erc_graph.methods.mfdr.TOKENS", tokens)
        torch.testing.assert_close(method(batch).scores, whole, rtol=1e-4, atol=1e-5)
    prepared = method.start_stage(0, batch)
    torch.testing.assert_close(method(prepared).scores, whole, rtol=1e-4, atol=1e-5)


def test_the_graph_is_what_brings_the_conversation_in() -> None:
    """Without it an utterance is judged by itself: the paper's own model."""
    corpus = make_corpus()
    for graph, heard in (("none", False), ("speaker", True)):
        method, batch = make(corpus, little(graph=graph))
        words = batch.sequences["text"]
        other = Ragged(words.values + (torch.arange(len(words.values)) < WORDS[0])[:, None], words.ptr)  # of the first utterance alone
        moved = (method(replace(batch, sequences={**batch.sequences, "text": other})).scores - method(batch).scores).abs().sum(1) > 1e-7
        assert moved[0] and not moved[5:].any() and bool(moved[1:5].any()) is heard
        assert (Pipeline(method).graph(corpus[0]) is not None) is heard
        assert set(operators(method)) == ({"conversation"} if heard else set())


def test_all_parameters_learn_and_the_unlabelled_are_context() -> None:
    method, batch = make(make_corpus((6,)), little(dropout=0.0))
    words = batch.sequences["text"].values.requires_grad_()
    scores = method.train()(batch).scores
    scores[4].sum().backward()  # the fourth has no label
    assert words.grad is not None and words.grad[sum(WORDS[:3]) : sum(WORDS[:4])].any()
    method(batch).scores.square().sum().backward()
    assert [name for name, p in method.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


TRAINING = TrainingConfig(epochs=4, batch_size=1, learning_rate=0.01, schedule="step", selection="last")


def test_same_seed_same_result_and_resumed_as_if_never_stopped(tmp_path: Path) -> None:
    corpus = make_corpus(())

    def train(config: TrainingConfig = TRAINING, **options: Any) -> dict[str, Tensor]:
        method, batch = make(corpus)
        fit(method, batch, None, config, seed=3, device="cpu", quiet=True, **options)
        return method.state_dict()

    whole = train()
    assert all(torch.equal(value, whole[name]) for name, value in train().items())

    class Stop(Exception):
        pass

    def stop(history: Any) -> None:
        if len(history.stages[0].epochs) == 2:
            raise Stop

    with pytest.raises(Stop):
        train(folder=tmp_path, on_epoch=stop)
    assert all(torch.equal(value, whole[name]) for name, value in train(folder=tmp_path, resume=True).items())


# -- what stands in for what ---------------------------------------------------------------------------------------------------------


def test_text_alone_is_audio_missing_everywhere() -> None:
    corpus = make_corpus()
    silent = replace(corpus, sequences={**corpus.sequences, "audio": Ragged(torch.zeros(0, 6), torch.zeros(10, dtype=torch.long))})
    both, batch = make(silent)
    alone, own = make(without(corpus, "audio"))
    assert alone.load_state_dict({k: v for k, v in both.state_dict().items() if not k.startswith("fronts.audio")}) is not None
    torch.testing.assert_close(alone(own).scores, both(batch).scores)
    assert not own.sequences["text"].present[2] and not alone.vectors(own.sequences)[2].any()


def test_audio_alone_reads_windows_in_the_place_of_words() -> None:
    corpus = without(make_corpus(), "text")
    method, batch = make(corpus)
    (words, mask), (frames, real) = method.read({"audio": batch.sequences["audio"].pad()})
    expected, here = windows_of(frames, real, 10, 5)
    assert torch.equal(words, expected) and torch.equal(mask, here) and mask.sum(1).tolist() == [1, 0, 4, 1, 1, 5, 0, 1, 1]
    assert method(batch).scores.isfinite().all()


def test_an_utterance_takes_what_it_has() -> None:
    method, batch = make(make_corpus())
    (words, mask), (frames, real) = method.read({name: batch.sequences[name].pad() for name in method.fronts})
    assert mask.sum(1).tolist() == [3, 5, 4, 1, 9, 4, 0, 2, 6]
    assert real.sum(1).tolist() == [14, 5, 25, 8, 1, 30, 0, 12, 5]
    assert torch.equal(frames[1][real[1]], words[1][mask[1]])
    assert torch.equal(method.given(batch).here(("audio", "text")).any(1), mask.any(1))


def test_faces_are_not_read() -> None:
    corpus = make_corpus()
    faces = Ragged(torch.randint(0, 256, (9, 3, 8, 8), dtype=torch.uint8), torch.arange(10))
    method, batch = make(replace(corpus, sequences={**corpus.sequences, "visual": faces}))
    assert set(method.fronts) == set(method.schema.sequences) == set(batch.sequences) == {"text", "audio"}
    plain, own = make(corpus)
    assert torch.equal(method(batch).scores, plain(own).scores)


@pytest.mark.parametrize(("item", "lengths"), [((6,), 6), ((), 6)], ids=["frames", "waveform"])
def test_what_is_longer_is_cut_and_counted(item: tuple[int, ...], lengths: int) -> None:
    corpus = make_corpus(item)
    method, batch = make(corpus, little(words=7, frames=lengths, stride=2))
    many = "3 of 9" if item else "2 of 9"  # a waveform of 14 × 160 samples has 12 windows of 400
    assert method.cut(batch) == [
        "1 of 9 utterances have more than 7 words, the limit of pipeline.words",
        f"{many} utterances have more than 6 frames, the limit of pipeline.frames",
    ]
    assert make(corpus)[0].cut(batch) == []
    padded = {name: batch.sequences[name].take([4, 5]).pad() for name in method.fronts}
    (words, _), (frames, _) = method.read(padded)
    assert words.shape[1] == 7 and frames.shape[1] <= 7  # of the fifth, whose 9 words are cut; one frame is too few for two
    behind = padded["text"][0].clone()
    behind[0, 7:] = 99.0
    assert torch.equal(method.vector({**padded, "text": (behind, padded["text"][1])}), method.vector(padded))


def test_two_frames_of_a_stride_are_their_mean() -> None:
    method, batch = make(make_corpus(), little(stride=2))
    _, (frames, real) = method.read({name: batch.sequences[name].pad() for name in method.fronts})
    whole, _ = method.fronts["audio"](*batch.sequences["audio"].pad())
    assert real.sum(1).tolist()[0] == 7
    torch.testing.assert_close(frames[0, :7], whole[0, :14].view(7, 2, -1).mean(1))


# -- the rows of Table 3 -------------------------------------------------------------------------------------------------------------

ROWS = [row for row in rows_of("mfdr") if row.number == 3]


def test_there_are_rows() -> None:
    assert len(ROWS) == 11


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_row_of_table_3_is_a_network_of_its_own(row: Row) -> None:
    config = little(dropout=MFDRConfig().dropout, words=MFDRConfig().words, frames=MFDRConfig().frames)
    corpus = make_corpus()
    (full, batch), (other, _) = make(corpus, config), make(corpus, changed(config, row.changes))
    gone = {name.split(".")[0] for name in set(full.state_dict()) ^ set(other.state_dict())}
    expected = {"w/o Context": "perceive", "GRU": "perceive", "MGRU": "perceive", "max-pooling": "refine", "avg-pooling": "refine"}
    expected["w/o DFC"] = "refine"
    assert gone == ({expected[row.name]} if row.name in expected else set())
    other.zero_grad()
    other.train()(batch).scores.square().sum().backward()
    assert [name for name, p in other.named_parameters() if p.grad is None] == []
    if row.name != "MFDR" and not gone:
        assert not torch.allclose(full(batch).scores, other.eval()(batch).scores)


def test_frames_side_by_side() -> None:
    method, batch = make(make_corpus(), little(dfc=DfcConfig(middle=4, readout="flat"), graph="none"))
    assert method.refine.count == 1 and method.vector_width == 6
    wide, batch = make(make_corpus(), little(words=50, dfc=DfcConfig(middle=4, readout="flat"), graph="none"))
    assert wide.refine.count == 8 and wide.vectors(batch.sequences).shape == (9, 48)
    assert not wide.vectors(batch.sequences)[:, 12:].any(), "nine words fill two of eight frames"


def test_the_printed_form_without_the_words_themselves() -> None:
    method, batch = make(make_corpus(), little(sawa=SawaConfig(residual=False)))
    padded = {name: batch.sequences[name].pad() for name in method.fronts}
    (words, mask), (frames, real) = method.read(padded)
    assert torch.equal(method.combine(padded)[0], method.attend(words, mask, frames, real)[0])
    full, _ = make(make_corpus())
    assert full.norm is not None
    (words, mask), (frames, real) = full.read(padded)
    torch.testing.assert_close(full.combine(padded)[0], full.norm(words + full.attend(words, mask, frames, real)[0]))


# -- pictures ------------------------------------------------------------------------------------------------------------------------


def test_the_bipartite_graph_of_an_utterance() -> None:
    corpus = make_corpus()
    method, batch = make(corpus)
    graph = method.windows(corpus["one"], 0)
    assert graph.words == ["and", "so", "on"] and graph["word"].num_nodes == 3 and graph["frame"].num_nodes == 14
    _, _, weights, seen = method.combine({name: batch.sequences[name].take([0]).pad() for name in method.fronts})
    frame, word = graph["frame", "window", "word"].edge_index
    assert len(frame) == int(seen.sum()) and seen[0, word, frame].all()
    assert torch.equal(graph["frame", "window", "word"].edge_weight, weights[0, word, frame])
    assert method.windows(corpus["one"], 1).words == [], "five words in the model, three in the text"
    for turn in (5, -1):
        with pytest.raises(ConfigError, match=f"turn: expected an utterance from 0 to 4 with text or audio, found {turn}"):
            method.windows(corpus["one"], turn)
    with pytest.raises(ConfigError, match="found 1"):
        method.windows(corpus["two"], 1)  # neither words nor frames


@pytest.mark.parametrize("adaptive", [True, False])
def test_the_heat_of_the_first_windows(adaptive: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("erc_graph.methods.mfdr.TOKENS", 40)
    method, batch = make(make_corpus(), little(sawa=SawaConfig(adaptive=adaptive)))
    heat = method.heat(batch, windows=3)
    assert heat.shape == (3, 30)
    expected, count = torch.zeros(3, 30), torch.zeros(3)
    for row in (0, 1, 2, 3, 4, 5, 7, 8):
        _, mask, weights, _ = method.combine({name: batch.sequences[name].take([row]).pad() for name in method.fronts})
        words, frames = int(mask.sum()), int((WORDS if not FRAMES[row] else FRAMES)[row])
        windows = max(1, (frames - 10) // 5 + 1)
        for word in range(words):
            if (window := word * windows // words) < 3:
                expected[window, :frames] += weights[0, word, :frames]
                count[window] += 1
    torch.testing.assert_close(heat, expected / count[:, None])


# -- what is refused -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: SawaConfig(window=7), r"pipeline\.sawa\.window: expected an even number of frames, or 0 for all, found 7"),
        (lambda: SawaConfig(window=30), r"pipeline\.sawa\.hop: expected 1 or more, and half of `window` if `adaptive` is true, found 5"),
        (lambda: GcpuConfig(heads=0), r"pipeline\.gcpu\.heads: expected 1 or more, found 0"),
        (lambda: DfcConfig(hops=[]), r"pipeline\.dfc\.hops: expected one number of 1 or more for each layer, found \[\]"),
        (lambda: MFDRConfig(words=6), r"pipeline\.words: expected 7 or more, so that each layer of dfc has a frame, found 6"),
        (lambda: make(make_corpus(), little(graph="nonsense")), "unknown name 'nonsense'"),
        (
            lambda: MFDR(Schema(widths={}, sequences={"visual": (3, 8, 8)}, task=THREE)),
            "modalities: expected sequences of text or audio, which MFDR reads, found visual",
        ),
    ],
)
def test_impossible_settings(change: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        change()
    assert SawaConfig(window=30, adaptive=False) and MFDRConfig(words=7)


def test_a_saved_method_answers_as_before(tmp_path: Path) -> None:
    corpus = make_corpus(())
    method, batch = make(corpus)
    Pipeline(method).save_pretrained(tmp_path / "model")
    again = Pipeline.from_pretrained(tmp_path / "model")
    assert isinstance(again.method, MFDR) and again.method.config == method.config
    torch.testing.assert_close(again(batch).scores, method(batch).scores)
    assert [row.emotion for row in again.predict(corpus)] == [row.emotion for row in Pipeline(method).predict(corpus)]


def test_a_prior_is_read_beside_words_and_frames() -> None:
    """MFDR reads no vectors; log-probabilities are added all the same."""
    corpus = make_corpus()
    said = torch.randn(corpus.utterances, 3).log_softmax(-1)
    corpus = replace(corpus, features={"said": said}, present={"said": torch.ones(corpus.utterances, dtype=torch.bool)})
    schema = replace(Schema.of(corpus, reads=("sequences", "features")), task=THREE)
    plain, method = (MFDR(schema, little(), prior=prior).eval() for prior in (None, PriorConfig(features=["said"])))
    assert method.schema.widths == {"said": 3} and not plain.schema.widths
    method.load_state_dict(plain.state_dict(), strict=False)
    batch = method.schema.batch(corpus)
    torch.testing.assert_close(method(batch).scores, plain(batch).scores + said)
