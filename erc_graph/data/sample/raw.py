r"""The raw sample corpus: the vectors of the sample corpus rendered as words, voices and faces.

`sample_corpus` draws three vectors per utterance. For the raw corpus, each vector is rendered as words, sound or images. The raw corpus
contains only the rendered data, not the vectors.

All information of an audio or visual vector about the emotion is in its projections on five orthonormal contrasts (`CONTRASTS`). A
contrast is a weighted difference of the mean vectors of the emotions. Five contrasts span all differences of the six means. Each contrast
controls one property of the rendering:

| vector | contrast → property |
|---|---|
| audio | energy, pitch and resonances, tremor, brightness, and breath of a harmonic voice of 0.4–0.8 s |
| visual | height and slope of the brows, opening of the eyes, and curve and opening of the mouth, in 4–6 face frames |
| text | no contrasts: the emotion with the nearest mean vector determines the sentence; every word has a fixed vector |

Pitch, resonances, skin, hair and size of the head also differ between speakers. Lengths, phases, noise, light and the position of the head
are random. These properties and random numbers do not depend on the emotion, so they add no information about the emotion. The best
possible accuracy for the vectors (`sample_bayes_limit`) is therefore an upper bound for every model of the raw corpus. No model reaches
this bound: a sentence carries less information than a text vector, and resonances cannot be measured exactly.

Results of transcendental functions are rounded before use, so the corpus is identical, bit by bit, on every machine.
"""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from erc_graph.data.corpus import Corpus
from erc_graph.data.ragged import SAMPLING_RATE, Ragged
from erc_graph.data.sample.vectors import NAMES, SENTENCES, TASK, SampleConfig, class_means, sample_corpus, sentences

Array = NDArray[np.float64]
Single = NDArray[np.float32]

RAW = SampleConfig(separation=1.7)
"""Default parameters of the raw sample corpus. The mean vectors of the emotions are closer together than in `sample_corpus`."""

WORD = 32  # width of a word's vector
SIDE = 32  # of a face frame
SECONDS = (0.4, 0.8)
FRAMES = (4, 6)

CONTRASTS: dict[str, dict[str, dict[str, int]]] = {
    "audio": {
        "energy": {"joy": 1, "anger": 1, "sadness": -1, "neutral": -1},
        "pitch": {"fear": 2, "surprise": 2, "joy": -1, "anger": -1, "sadness": -1, "neutral": -1},
        "tremor": {"fear": 1, "surprise": -1},
        "brightness": {"joy": 1, "anger": -1},
        "breath": {"sadness": 1, "neutral": -1},
    },
    "visual": {
        "eyes": {"fear": 1, "surprise": 1, "anger": -1, "sadness": -1},
        "curve": {"joy": 2, "neutral": 2, "sadness": -1, "anger": -1, "fear": -1, "surprise": -1},
        "mouth": {"joy": 1, "neutral": -1},
        "slope": {"sadness": 1, "anger": -1},
        "brows": {"surprise": 1, "fear": -1},
    },
}
"""Modality → property → emotion → weight. The weight vectors of a modality are orthogonal, and are scaled to length one before use."""


def sample_raw_corpus(*, dialogues: int = 160, seed: int = 0, config: SampleConfig | None = None) -> Corpus:
    """Generate conversations as sequences of words, 16 kHz waveforms and face frames, without features.

    With the same parameters, `sample_corpus` gives the same dialogues, speakers, emotions, splits and missing modalities.

    Args:
        dialogues: Number of dialogues.
        seed: Seed of the conversations and of the rendering.
        config: Parameters of the generator; default: `RAW`.

    Returns:
        A corpus with the sequences `text` `(words, 32)`, `audio` `(samples,)` in [-1, 1] and `visual` `(frames, 3, 32, 32)` bytes. Some
        sequences are missing.

    Raises:
        ConfigError: there are fewer than three dialogues, or `config` has an impossible value.

    >>> sample_raw_corpus(dialogues=3)[0]
    Dialogue(sample-0: 27 utterances, 2 speakers)
    """
    config = config or RAW
    hidden = sample_corpus(dialogues=dialogues, seed=seed, config=config)
    rng = np.random.Generator(np.random.PCG64([seed, 1]))
    who = np.array([NAMES.index(name) for name in hidden.speakers])
    texts = _say(rng, hidden, config)
    known = {name: hidden.present[name].numpy() for name in CONTRASTS}
    parts = {name: contrasts(name, hidden.features[name].numpy()[here]) for name, here in known.items()}
    seconds = rng.uniform(*SECONDS, hidden.utterances)
    frames = rng.integers(FRAMES[0], FRAMES[1] + 1, hidden.utterances)
    samples = np.where(known["audio"], np.rint(seconds * SAMPLING_RATE).astype(np.int64), 0)
    shown = np.where(known["visual"], frames, 0)
    voices = render_voices(rng, parts["audio"], who[known["audio"]], samples[known["audio"]])
    faces = render_faces(rng, parts["visual"], who[known["visual"]], shown[known["visual"]])
    words, counts = word_vectors(texts)
    return replace(
        hidden,
        name="sample-raw",
        texts=texts,
        features={},
        present={},
        sequences={"text": _packed(words, counts), "audio": _packed(voices, samples), "visual": _packed(faces, shown)},
        provenance={
            "format": "generated raw sample corpus",
            "sample": {"raw": True, "dialogues": dialogues, "seed": seed, **asdict(config)},
        },
    )


def contrasts(modality: str, vectors: NDArray[Any]) -> dict[str, Array]:
    """Project vectors `(n, d)` on the contrasts of a modality (weighted differences of the mean vectors of the emotions).

    Returns:
        Property → projections of the vectors, `(n,)`. For vectors of the same emotion, the variance of the projections is one.
    """
    points = class_means(SampleConfig(separation=1, detail=1))[modality]  # orthonormal
    found = {}
    for name, weights in CONTRASTS[modality].items():
        weight = np.array([weights.get(label, 0) for label in TASK.labels]) / np.sqrt(sum(value**2 for value in weights.values()))
        axis = (weight[:, None] * points).sum(0)
        found[name] = np.round((vectors.astype(np.float64).T * axis[:, None]).sum(0), 4)
    return found


def _packed(values: NDArray[Any], lengths: NDArray[np.int64]) -> Ragged:
    return Ragged(torch.from_numpy(values), torch.from_numpy(np.concatenate([[0], lengths.cumsum()])))


# -- words ------------------------------------------------------------------------------------------------------------------------


def _say(rng: np.random.Generator, hidden: Corpus, config: SampleConfig) -> tuple[str, ...]:
    """Draw a sentence per utterance, which expresses the emotion with the nearest mean vector and addresses the previous speaker."""
    gaps = hidden.features["text"].numpy().astype(np.float64)[:, None, :] - class_means(config)["text"]
    heard = np.round((gaps**2).sum(-1), 4).argmin(1)
    speaker, row, first = hidden.speaker.numpy(), np.arange(hidden.utterances), hidden.ptr.numpy()[hidden.dialogue_of.numpy()]
    before = np.where(row == first, row + 1, row - 1).clip(max=len(row) - 1)
    another = np.where(speaker == 0, first + 1, first).clip(max=len(row) - 1)  # the second turn is never the first speaker's
    to = np.where(speaker[before] != speaker, before, another)
    return sentences(rng, heard, hidden.present["text"].numpy(), [hidden.speakers[i] for i in to.tolist()])


def _split(sentence: str) -> list[str]:
    return re.findall(r"\w+|[^\w\s]", sentence.lower())


def word_vectors(texts: tuple[str, ...]) -> tuple[Single, NDArray[np.int64]]:
    """Return the vectors of all words and punctuation marks of the texts. The vector of a word is fixed and random.

    Returns:
        The vectors of the `T` words of all texts, concatenated, `(T, 32)`, and the number of words of each text, `(U,)`.
    """
    said = [form.format(name=name) for forms in SENTENCES.values() for form in forms for name in NAMES]
    known = {word: i for i, word in enumerate(sorted({word for sentence in said for word in _split(sentence)}))}
    table = np.random.Generator(np.random.PCG64(32)).standard_normal((len(known), WORD)).astype(np.float32)
    rows = {text: [known[word] for word in _split(text)] for text in set(texts)}  # a few hundred texts, however many utterances
    counts = np.array([len(rows[text]) for text in texts])
    return table[np.fromiter((i for text in texts for i in rows[text]), np.int64, int(counts.sum()))], counts


# -- voices -----------------------------------------------------------------------------------------------------------------------

_TABLE = 1024  # points of one period
_HARMONICS = 32
_CHUNK = 16  # utterances or frames rendered at a time: what fits into a cache
_RESONANCES = (600.0, 1500.0, 2600.0)  # Hz


def _soft(values: Array, most: float = 3.0) -> Array:
    """Limit values smoothly to the range from `-most` to `most`. Values near zero hardly change."""
    return values / (1 + np.abs(values) / most)


def render_voices(rng: np.random.Generator, part: dict[str, Array], who: NDArray[np.int64], samples: NDArray[np.int64]) -> Single:
    """Render harmonic voices as concatenated waveforms, `(samples.sum(),)` in [-1, 1], quantised to 16 bits.

    A period of the waveform is a sum of harmonics with three resonances. Higher harmonics are weaker; `brightness` controls the decrease.
    The period repeats with the frequency of the `pitch`, which falls a little over time. `tremor` controls the oscillation of the loudness,
    and `breath` controls the added noise.
    """
    period = _periods(part, who)
    wave = np.round(np.sin(2 * np.pi * np.arange(_TABLE) / _TABLE), 6).astype(np.float32)
    pitch = _pitch(part, who)[:, None]
    loudness = np.round(10 ** ((3.5 * _soft(part["energy"], 4.0) - 20) / 20), 6).astype(np.float32)[:, None]
    depth = (0.42 + 0.16 * _soft(part["tremor"])).clip(0, 0.9).astype(np.float32)[:, None]
    breath = np.round(10 ** ((4.5 * _soft(part["breath"], 4.0) - 17) / 20), 6).astype(np.float32)[:, None]
    rate = np.round(rng.uniform(8, 11, (len(who), 1)), 2)  # Hz, of the tremor
    start = rng.random((2, len(who), 1))  # phases
    found = []
    for low in range(0, len(who), _CHUNK):
        part_of = slice(low, low + _CHUNK)
        length = samples[part_of, None]
        time = np.arange(int(length.max())) / SAMPLING_RATE
        turns = time * (1 - 0.08 * time) * pitch[part_of] + start[0, part_of]
        index = (turns * _TABLE).astype(np.int32) & (_TABLE - 1)
        tone = np.take_along_axis(period[part_of], index, 1)
        shake = wave[((time * rate[part_of] + start[1, part_of]) * _TABLE).astype(np.int32) & (_TABLE - 1)]
        noise = rng.standard_normal(tone.shape, dtype=np.float32)
        place = np.arange(tone.shape[1])
        edge = (np.minimum(place + 1, length - place) / np.float32(0.02 * SAMPLING_RATE)).clip(0, 1).astype(np.float32)
        sound = loudness[part_of] * edge * (1 + depth[part_of] * shake) * (tone + breath[part_of] * noise)
        found.append(np.rint(sound.clip(-1, 1) * 32767)[place < length] / np.float32(32768))
    return np.concatenate(found) if found else np.zeros(0, np.float32)


def _pitch(part: dict[str, Array], who: NDArray[np.int64]) -> Array:
    """Return the pitch of each utterance in Hz, `(n,)`: the pitch of the speaker, at most three quarters of an octave higher or lower."""
    own = 120 + 80 * _own(1, len(NAMES))[who]
    return np.round(own * 2 ** (0.25 * _soft(part["pitch"])), 3)


def _own(what: int, shape: int | tuple[int, ...]) -> Array:
    """Return random properties of the speakers, from 0 to 1. They do not depend on the seed of a corpus."""
    return np.random.Generator(np.random.PCG64([what, 12])).random(shape)


def _periods(part: dict[str, Array], who: NDArray[np.int64]) -> Single:
    """Return one period of the waveform of every utterance, `(n, samples of a period)`, with a mean square of one half."""
    pitch, size = _pitch(part, who), 0.9 + 0.2 * _own(2, len(NAMES))[who]
    raised = size * 2 ** (0.18 * _soft(part["pitch"]))
    slope = 1.1 - 0.3 * _soft(part["brightness"])
    amplitudes = []
    for harmonic in range(1, _HARMONICS + 1):
        frequency = harmonic * pitch
        peaks = sum(1 / (1 + ((frequency - centre * raised) / (0.16 * centre)) ** 2) for centre in _RESONANCES)
        amplitudes.append(np.where(frequency < 0.47 * SAMPLING_RATE, harmonic**-slope * (0.15 + peaks), 0))
    stacked = np.stack(amplitudes)
    stacked = np.round(stacked / np.sqrt((stacked**2).sum(0)), 6).astype(np.float32)
    period = np.zeros((len(who), _TABLE), np.float32)
    for harmonic, amplitude in enumerate(stacked, 1):
        turns = harmonic * np.arange(_TABLE) / _TABLE + 0.618 * harmonic**2  # phases that do not add up to a click
        period += amplitude[:, None] * np.round(np.sin(2 * np.pi * turns), 6).astype(np.float32)
    return period


# -- faces ------------------------------------------------------------------------------------------------------------------------


def render_faces(rng: np.random.Generator, part: dict[str, Array], who: NDArray[np.int64], frames: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Render face frames of all utterances, concatenated: `(frames.sum(), 3, 32, 32)` RGB bytes.

    The expression becomes stronger over the frames of an utterance.
    """
    owner = np.repeat(np.arange(len(who)), frames)
    number = np.arange(len(owner)) - np.repeat(frames.cumsum() - frames, frames)
    grown = 0.7 + 0.3 * number / np.maximum(frames[owner] - 1, 1)
    face = {name: (_soft(value)[owner] * grown).astype(np.float32) for name, value in part.items()}
    place = (rng.uniform(-0.08, 0.08, (2, len(who)))[:, owner] + rng.uniform(-0.02, 0.02, (2, len(owner)))).astype(np.float32)
    light = rng.uniform(0.8, 1.1, len(who)).astype(np.float32)[owner]
    found = []
    for low in range(0, len(owner), _CHUNK):
        rows = slice(low, low + _CHUNK)
        drawn = _draw({name: value[rows, None, None] for name, value in face.items()}, who[owner[rows]], place[:, rows, None, None])
        noise = rng.standard_normal(drawn.shape, dtype=np.float32)
        found.append(np.rint((drawn * light[rows, None, None, None] + 6 * noise).clip(0, 255)).astype(np.uint8))
    return np.concatenate(found) if found else np.zeros((0, 3, SIDE, SIDE), np.uint8)


def _draw(face: dict[str, Single], who: NDArray[np.int64], place: Single) -> Single:
    """Draw faces `(n, 3, SIDE, SIDE)`, with values from 0 to 255.

    The height of a face image is two; x points to the right, y down. All functions have the same result on every machine.
    """
    axis = ((np.arange(SIDE) + 0.5) * 2 / SIDE - 1).astype(np.float32)
    size = (0.92 + 0.16 * _own(3, len(NAMES))[who]).astype(np.float32)[:, None, None]
    x, y = (axis[None, None, :] - place[0]) / size, (axis[None, :, None] - place[1]) / size
    side = np.abs(x)

    def cover(depth: Single) -> Single:
        """Return the share of each pixel that is inside a shape, from the distance of the pixel to the edge (positive inside)."""
        return (depth * np.float32(SIDE / 2) + np.float32(0.5)).clip(0, 1)

    def oval(dx: Single, dy: Single, width: Any, height: Any) -> Single:
        return cover((1 - np.sqrt((dx / width) ** 2 + (dy / height) ** 2)) * np.minimum(width, height))

    head = oval(x, y, np.float32(0.74), np.float32(0.92))
    opening = np.float32(0.11) + np.float32(0.035) * face["eyes"]
    eye = oval(side - np.float32(0.3), y + np.float32(0.12), np.float32(0.17), opening)
    pupil = oval(side - np.float32(0.3), y + np.float32(0.12), np.float32(0.075), np.float32(0.09)) * eye
    line = np.float32(-0.4) - np.float32(0.06) * face["brows"] + np.float32(0.32) * face["slope"] * (side - np.float32(0.3))
    brow = cover(np.float32(0.05) - np.abs(y - line)) * cover(np.float32(0.19) - np.abs(side - np.float32(0.3)))
    bow = (x / np.float32(0.36)) ** 2
    lips = y - np.float32(0.47) + np.float32(0.13) * face["curve"] * (bow - np.float32(0.5))
    gap = (np.float32(0.08) + np.float32(0.026) * face["mouth"]) * (1 - bow).clip(0)
    within = cover(np.float32(0.38) - side)
    mouth, inner = cover(gap + np.float32(0.035) - np.abs(lips)) * within, cover(gap - np.abs(lips)) * within
    hair = head * cover(np.float32(-0.5) - y + np.float32(0.15) * side)

    skin = (np.array([[120, 78, 54]]) + _own(4, len(NAMES))[:, None] * np.array([[118, 122, 116]])).astype(np.float32)[who]
    tuft = (np.array([[25, 20, 18]]) + _own(5, len(NAMES))[:, None] * np.array([[150, 110, 60]])).astype(np.float32)[who]
    image = np.broadcast_to(np.array([96, 112, 128], np.float32)[:, None, None], (len(who), 3, SIDE, SIDE))
    layers = (
        (head, skin), (hair, tuft), (eye, (245, 245, 245)), (pupil, (30, 25, 25)), (brow, 0.6 * tuft), (mouth, (176, 66, 72)),
        (inner, (70, 16, 24)),
    )  # fmt: skip
    for alpha, colour in layers:
        paint = np.asarray(colour, np.float32).reshape(-1, 3, 1, 1)
        image = image + alpha[:, None] * (paint - image)
    return image
