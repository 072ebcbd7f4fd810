"""The raw sample corpus renders the sample corpus's vectors: words, voices and faces say what the vectors say, and no more."""

from __future__ import annotations

import hashlib
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from erc_graph.data.files.load import load_corpus
from erc_graph.data.ragged import SAMPLING_RATE
from erc_graph.data.sample import raw as sample_raw
from erc_graph.data.sample.bayes_limit import sample_bayes_limit, sample_posterior
from erc_graph.data.sample.raw import CONTRASTS, RAW, contrasts, render_faces, render_voices, sample_raw_corpus
from erc_graph.data.sample.vectors import NAMES, SENTENCES, TASK, class_means, sample_corpus
from erc_graph.errors import ConfigError, CorpusError


@pytest.fixture(scope="module")
def corpus():
    return sample_raw_corpus(dialogues=40)


@pytest.fixture(scope="module")
def hidden():
    return sample_corpus(dialogues=40, config=RAW)


def test_shape_of_the_corpus(corpus, hidden) -> None:
    assert corpus.name == "sample-raw" and corpus.task is TASK and not corpus.features
    assert corpus.utterance_ids == hidden.utterance_ids and corpus.target.equal(hidden.target) and corpus.splits == hidden.splits
    text, audio, visual = (corpus.sequences[name] for name in ("text", "audio", "visual"))
    assert (text.item, audio.item, visual.item) == ((32,), (), (3, 32, 32))
    assert (text.values.dtype, audio.values.dtype, visual.values.dtype) == (torch.float32, torch.float32, torch.uint8)
    for name, value in corpus.sequences.items():
        assert value.present.equal(hidden.present[name]) and not value.present.all()
    seconds = audio.lengths[audio.present] / SAMPLING_RATE
    assert seconds.min() >= 0.4 and seconds.max() <= 0.8
    assert set(visual.lengths[visual.present].tolist()) == {4, 5, 6}
    assert audio.values.abs().max() <= 1 and (audio.values * 32768).frac().eq(0).all()
    assert [bool(words) for words in corpus.texts] == text.present.tolist()


def test_load_corpus_knows_it() -> None:
    corpus = load_corpus("sample-raw")
    assert len(corpus) == 160 and corpus.task.name == "sample6" and not corpus.features


def test_same_seed_same_bits_on_any_machine() -> None:
    def fingerprint(seed: int) -> str:
        corpus = sample_raw_corpus(dialogues=4, seed=seed)
        values = b"".join(value.values.numpy().tobytes() for value in corpus.sequences.values())
        return hashlib.sha256("|".join(corpus.texts).encode() + values).hexdigest()[:16]

    assert fingerprint(0) == fingerprint(0) != fingerprint(1)
    assert fingerprint(0) == "fb13d45e1e23b145"


def test_generation_is_quick() -> None:
    start = time.process_time()
    sample_raw_corpus(dialogues=40)
    assert time.process_time() - start < 3


def test_texts_say_what_the_text_vector_is_nearest_to(corpus, hidden) -> None:
    points = class_means(RAW)["text"]
    for row, (text, vector) in enumerate(zip(corpus.texts, hidden.features["text"].numpy(), strict=True)):
        if text:
            label = TASK.labels[int(((vector - points) ** 2).sum(1).argmin())]
            others = [name for name in NAMES if name != corpus.speakers[row]]
            assert any(text == form.format(name=name) for form in SENTENCES[label] for name in others)


def test_a_word_has_one_vector_wherever_it_stands(corpus) -> None:
    seen: dict[str, torch.Tensor] = {}
    for row, text in enumerate(corpus.texts):
        words = sample_raw._split(text)
        vectors = corpus.sequences["text"][row]
        assert len(words) == len(vectors)
        for word, vector in zip(words, vectors, strict=True):
            assert seen.setdefault(word, vector).equal(vector)
    assert len(torch.stack(list(seen.values())).unique(dim=0)) == len(seen)


@pytest.mark.parametrize("modality", CONTRASTS)
def test_contrasts_are_orthonormal_and_keep_all_that_the_vector_says(modality, hidden) -> None:
    rows = np.array([[weights.get(label, 0) for label in TASK.labels] for weights in CONTRASTS[modality].values()])
    assert np.array_equal(rows @ rows.T, np.diag((rows**2).sum(1)))
    vectors, mean = hidden.features[modality].numpy().astype(np.float64), class_means(RAW)[modality]
    full = -0.5 * ((vectors[:, None] - mean) ** 2).sum(-1)
    parts, points = np.stack(list(contrasts(modality, vectors).values()), 1), np.stack(list(contrasts(modality, mean).values()), 1)
    kept = -0.5 * ((parts[:, None] - points) ** 2).sum(-1)
    assert np.allclose(full - full[:, :1], kept - kept[:, :1], atol=5e-3)  # contrasts are rounded to four decimals


def test_the_limit_is_that_of_the_vectors_behind(corpus, hidden) -> None:
    assert sample_bayes_limit(corpus) == sample_bayes_limit(hidden)
    assert np.array_equal(
        sample_posterior(corpus.split("dev"), modalities=["audio"]), sample_posterior(hidden.split("dev"), modalities=["audio"])
    )
    one = replace(hidden, present={name: value if name == "audio" else torch.zeros_like(value) for name, value in hidden.present.items()})
    assert sample_bayes_limit(corpus, modalities=["audio"]) == sample_bayes_limit(one) < sample_bayes_limit(corpus)
    with pytest.raises(CorpusError, match="no modality 'smell' of the sample corpus; the corpus has text, audio, visual"):
        sample_bayes_limit(corpus, modalities=["smell"])


def test_features_made_of_a_sequence_have_its_limit(corpus, hidden) -> None:
    vectors = torch.ones(corpus.utterances, 3)
    made = replace(corpus, features={"text": vectors}, present={"text": corpus.sequences["text"].present}, sequences={})
    assert sample_bayes_limit(made, modalities=["text"]) == sample_bayes_limit(hidden, modalities=["text"])


def test_the_limit_survives_saving(tmp_path, corpus) -> None:
    corpus.save(tmp_path / "raw")
    assert sample_bayes_limit(load_corpus(tmp_path / "raw")) == sample_bayes_limit(corpus)


def test_wrong_numbers_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least 3 dialogues"):
        sample_raw_corpus(dialogues=2)


# -- what a property does ---------------------------------------------------------------------------------------------------------


def voices(**values: float) -> np.ndarray:
    """Twenty voices of one second by one person; the named property as given, the others zero."""
    part = {name: np.full(20, values.get(name, 0.0)) for name in CONTRASTS["audio"]}
    sound = render_voices(np.random.default_rng(0), part, np.zeros(20, int), np.full(20, SAMPLING_RATE))
    return sound.reshape(20, SAMPLING_RATE)


def spectrum(sound: np.ndarray) -> np.ndarray:
    return (np.abs(np.fft.rfft(sound * np.hanning(sound.shape[1]))) ** 2).mean(0)  # one bin per Hz


def test_energy_is_loudness() -> None:
    assert (voices(energy=2) ** 2).mean() > 4 * (voices(energy=-2) ** 2).mean()


def test_pitch_is_the_distance_of_the_harmonics() -> None:
    def fundamental(sound: np.ndarray) -> float:
        middle = sound[:, 4000:8000]
        similar = np.fft.irfft(np.abs(np.fft.rfft(middle, 8000)) ** 2).mean(0)
        return SAMPLING_RATE / (40 + similar[40:200].argmax())

    low, high = fundamental(voices(pitch=-1)), fundamental(voices(pitch=1))
    expected = 2 ** (2 * 0.25 * 0.75)  # 1 / (1 + 1 / 3) of a quarter of an octave, up and down
    assert high / low == pytest.approx(expected, rel=0.03)


def test_brightness_is_energy_in_high_harmonics_and_breath_between_them() -> None:
    def share(sound: np.ndarray, low: int, high: int) -> float:
        power = spectrum(sound)
        return float(power[low:high].sum() / power.sum())

    assert share(voices(brightness=1.5), 1200, 4000) > 1.5 * share(voices(brightness=-1.5), 1200, 4000)
    assert share(voices(breath=1.5), 6000, 8000) > 3 * share(voices(breath=-1.5), 6000, 8000)


def test_tremor_is_a_change_of_loudness_over_time() -> None:
    def shake(sound: np.ndarray) -> float:
        loudness = np.sqrt((sound[:, 800:15200].reshape(20, -1, 320) ** 2).mean(2))
        return float((loudness.std(1) / loudness.mean(1)).mean())

    assert shake(voices(tremor=1.5)) > 2 * shake(voices(tremor=-1.5))


def faces(**values: float) -> np.ndarray:
    """`(3, 32, 32)` mean of the last frames of two hundred faces of one person."""
    part = {name: np.full(200, values.get(name, 0.0)) for name in CONTRASTS["visual"]}
    drawn = render_faces(np.random.default_rng(0), part, np.zeros(200, int), np.full(200, 4))
    return drawn.reshape(200, 4, 3, 32, 32)[:, -1].mean(0)


def test_a_property_of_the_face_changes_its_own_place() -> None:
    regions = {"brows": slice(7, 12), "slope": slice(7, 13), "eyes": slice(11, 18), "curve": slice(20, 28), "mouth": slice(20, 28)}
    for name, region in regions.items():
        change = np.abs(faces(**{name: 2}) - faces(**{name: -2})).sum((0, 2))
        assert change[region].sum() > 0.9 * change.sum(), name


def test_the_corners_of_the_mouth_go_up_with_the_curve() -> None:
    smile, frown = faces(curve=2), faces(curve=-2)
    corner, middle = (slice(20, 28), slice(10, 12)), (slice(20, 28), slice(15, 17))
    rows = np.arange(20, 28)[:, None]

    def height(face: np.ndarray, place: tuple[slice, slice]) -> float:
        dark = 255 - face[1][place]  # lips are dark in green
        dark = dark - dark.min()
        return float((dark * rows).sum() / dark.sum())

    assert height(smile, corner) < height(smile, middle) and height(frown, corner) > height(frown, middle)


def test_nothing_to_render_is_nothing() -> None:
    nobody, nothing = np.zeros(0, int), np.zeros(0)
    rng = np.random.default_rng(0)
    assert render_voices(rng, dict.fromkeys(CONTRASTS["audio"], nothing), nobody, nobody).shape == (0,)
    assert render_faces(rng, dict.fromkeys(CONTRASTS["visual"], nothing), nobody, nobody).shape == (0, 3, 32, 32)
