r"""The sample corpus: generated conversations whose best possible accuracy is known (`erc_graph.data.sample.bayes_limit`).

**Emotions.** With probability :math:`\alpha` (inertia), the speaker of utterance :math:`t` has their own last emotion :math:`a` again.
With probability :math:`\beta` (contagion), the speaker takes over :math:`b`, the last emotion of the other speaker who spoke last.
Otherwise the emotion is drawn from the distribution :math:`\pi` (`BASE`). The brackets are 1 if the equation in them is true, otherwise 0:

.. math:: P(e_t \mid a, b) = \alpha [e_t = a] + \beta [e_t = b] + (1 - \alpha - \beta)\, \pi(e_t)

If the speaker has no earlier utterance, :math:`\alpha` is 0. If no other speaker has an earlier utterance, :math:`\beta` is 0. The order of
speakers does not depend on emotions. The emotion of every single utterance has the distribution :math:`\pi`. Without context, only the
vectors of the utterance are therefore informative.

**Vectors.** The vector of a modality is the mean vector of the emotion plus standard normal noise. For the pairs of emotions in `CONFUSED`,
the two mean vectors are close together. For example, text hardly distinguishes joy from surprise, and audio hardly distinguishes joy from
anger. The modalities therefore complement each other. Some vectors are missing.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from erc_graph.data.corpus import Corpus
from erc_graph.data.splits import SPLITS
from erc_graph.data.tasks import TASKS, apply_task
from erc_graph.errors import ConfigError

Array = NDArray[np.float64]

TASK = TASKS["sample6"]
BASE = {"joy": 0.19, "sadness": 0.16, "anger": 0.16, "fear": 0.11, "surprise": 0.13, "neutral": 0.25}
WIDTH = {"text": 16, "audio": 8, "visual": 8}  # powers of two, at least 8
CONFUSED = {
    "text": (("joy", "surprise"), ("anger", "fear")),
    "audio": (("sadness", "neutral"), ("joy", "anger")),
    "visual": (("fear", "surprise"), ("anger", "sadness")),
}
SHARES = {"train": 0.6, "dev": 0.15, "test": 0.25}
NAMES = ("Ada", "Ben", "Chloe", "David", "Emma", "Felix", "Grace", "Hugo", "Iris", "Jonas", "Kira", "Leo")

# `{name}` is the person spoken to. What is confused in the text vectors is confused in the words: such pairs share most sentences.
_JOY = ("I passed, {name}, I passed!", "This is the best news all week.", "I love it, {name}, thank you.")
_WOW = ("No way, {name}!", "You did what?", "I cannot believe this!", "Wow, look at that, {name}!")
_TENSE = ("Stop it, {name}!", "Get away from that door!", "What was that, {name}?", "Do not touch it!")
SENTENCES = {
    "joy": (*_JOY, *_WOW),
    "sadness": (
        "I miss her so much, {name}.",
        "It is over. There is nothing left.",
        "I cried all night.",
        "Nobody called, {name}.",
    ),
    "anger": ("How dare you, {name}!", "I have had enough of this.", *_TENSE),
    "fear": ("I heard steps, {name}.", "Please do not leave me here.", *_TENSE),
    "surprise": ("I did not see that coming, {name}.", *_WOW),
    "neutral": (
        "The meeting is at three, {name}.",
        "I put the keys on the table.",
        "We can take the bus.",
        "Did you call them, {name}?",
    ),
}


@dataclass(frozen=True, kw_only=True)
class SampleConfig:
    """Parameters of the generator of the sample corpus.

    Attributes:
        turns: Smallest and largest number of utterances of a dialogue.
        speakers: Smallest and largest number of speakers of a dialogue; at least two.
        repeat: Probability that the speaker of an utterance is also the speaker of the next utterance.
        inertia: Probability α that a speaker has their own last emotion again.
        contagion: Probability β that a speaker takes over the last emotion of the other speaker who spoke last.
        missing: Probability that a vector is missing, independently for every vector.
        separation: Distance of a class mean from the origin, in standard deviations of the noise.
        detail: Distance between the class means of a pair in `CONFUSED`, as a fraction of the distance between the means of other classes.
    """

    turns: tuple[int, int] = (6, 30)
    speakers: tuple[int, int] = (2, 5)
    repeat: float = 0.15
    inertia: float = 0.25
    contagion: float = 0.45
    missing: float = 0.08
    separation: float = 1.85
    detail: float = 0.2

    def __post_init__(self) -> None:
        for name in ("turns", "speakers"):
            low, high = getattr(self, name)
            least = {"turns": 1, "speakers": 2}[name]
            if not least <= low <= high:
                raise ConfigError(
                    f"sample.{name}: expected two numbers (fewest, most) with {least} <= fewest <= most, found ({low}, {high})"
                )
        if self.speakers[1] > len(NAMES):
            raise ConfigError(f"sample.speakers: expected at most {len(NAMES)} speakers, found {self.speakers[1]}")
        for name in ("repeat", "inertia", "contagion", "missing", "detail"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"sample.{name}: expected a number from 0 to 1, found {getattr(self, name)}")
        if not 0 <= self.separation < 100:
            raise ConfigError(f"sample.separation: expected a number from 0 to 100, found {self.separation}")
        if self.inertia + self.contagion > 1:
            raise ConfigError(f"sample: expected inertia + contagion of at most 1, found {self.inertia} + {self.contagion}")


def class_means(config: SampleConfig) -> dict[str, Array]:
    """Return the mean vectors of the emotions: modality → `(6, d)`. They do not depend on the seed of a corpus.

    The mean vectors are scaled rows of a Hadamard matrix with flipped and shuffled axes, so they are orthogonal. The two mean vectors
    of each pair in `CONFUSED` are then moved towards each other. No matrix product is used, so the numbers are the same on every machine.
    """
    rng = np.random.Generator(np.random.PCG64(20))
    means = {}
    for modality, width in WIDTH.items():
        bits = np.array([[bin(i & j).count("1") for j in range(width)] for i in range(1, len(TASK.labels) + 1)])
        signs = np.where(bits % 2, -1.0, 1.0) * rng.choice([-1.0, 1.0], width)
        points = signs[:, rng.permutation(width)] * (config.separation / math.sqrt(width))
        near = points.copy()
        for pair in CONFUSED[modality]:
            i, j = (TASK.labels.index(name) for name in pair)
            near[i] = (1 + config.detail) / 2 * points[i] + (1 - config.detail) / 2 * points[j]
            near[j] = (1 + config.detail) / 2 * points[j] + (1 - config.detail) / 2 * points[i]
        means[modality] = near
    return means


def prior() -> Array:
    """Return the distribution `BASE` of emotions without inertia and contagion, `(6,)`, in the order of the task's labels."""
    return np.array([BASE[name] for name in TASK.labels])


def _turns(rng: np.random.Generator, lengths: NDArray[np.int64], config: SampleConfig) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw the speakers and the emotions of `D` dialogues of `L` utterances, `(D, L)` each.

    Position by position, the utterances of all dialogues are drawn at once.
    """
    count, every = len(lengths), np.arange(len(lengths))
    fewest, most = config.speakers
    people = fewest + ((most - fewest + 1) * rng.random(count) ** 2).astype(np.int64)  # small groups are more frequent
    cumulative = prior().cumsum()
    felt = np.full((count, config.speakers[1]), -1)  # last emotion per speaker
    last = np.full(count, -1)  # who spoke last, and who of the others before
    before = np.full(count, -1)
    speakers, emotions = [], []
    for turn in range(int(lengths.max())):
        go_on, step, first = rng.random(count) < config.repeat, rng.integers(1, people), rng.integers(0, people)
        moved = (last + step) % people
        # The second turn is another speaker's, so that every dialogue has two.
        speaker = first if turn == 0 else np.where(go_on & (turn > 1), last, moved)
        other = np.where(speaker != last, last, before)
        own = felt[every, speaker]
        others = np.where(other >= 0, felt[every, other], -1)
        source = rng.random(count)
        fresh = np.minimum(np.searchsorted(cumulative, rng.random(count), side="right"), len(cumulative) - 1)
        emotion = np.where(source < config.inertia, own, np.where(source < config.inertia + config.contagion, others, -1))
        emotion = np.where(emotion >= 0, emotion, fresh)
        felt[every, speaker] = emotion
        last, before = speaker, other
        speakers.append(speaker)
        emotions.append(emotion)
    return np.stack(speakers, 1), np.stack(emotions, 1)


def sentences(rng: np.random.Generator, emotion: NDArray[np.int64], heard: NDArray[np.bool_], to: list[str]) -> tuple[str, ...]:
    """Draw one sentence per utterance, which expresses the emotion of the utterance.

    `to` has the name of the person whom each utterance addresses. `heard` is False for an utterance without text; its sentence is empty.
    """
    pick = rng.random(len(emotion))
    forms = [SENTENCES[name] for name in TASK.labels]
    return tuple(
        forms[e][int(u * len(forms[e]))].format(name=name) if there else ""
        for e, u, there, name in zip(emotion.tolist(), pick.tolist(), heard.tolist(), to, strict=True)
    )


def sample_corpus(*, dialogues: int = 600, seed: int = 0, config: SampleConfig | None = None) -> Corpus:
    """Generate conversations with six emotions, 2–5 speakers and three modalities.

    The same seed gives the same corpus on every machine.

    60 % of the dialogues are for training, 15 % for development, 25 % for test. If the text vector of an utterance is missing, its text is
    empty. Corpora with different seeds have the same distribution. A model that is trained on one corpus can thus be evaluated on another
    corpus.

    Args:
        dialogues: Number of dialogues.
        seed: Seed of the conversations.
        config: Parameters of the generator.

    Raises:
        ConfigError: there are fewer than three dialogues, or `config` has an impossible value.

    >>> sample_corpus()
    Corpus(sample: 600 dialogues, 11091 utterances; text 16, audio 8, visual 8; train 360 dev 90 test 150; task sample6)
    """
    config = config or SampleConfig()
    if dialogues < len(SHARES):
        raise ConfigError(f"sample: expected at least {len(SHARES)} dialogues, one per split; found {dialogues}")
    rng = np.random.Generator(np.random.PCG64(seed))
    lengths = rng.integers(config.turns[0], config.turns[1] + 1, dialogues)
    speakers, emotions = _turns(rng, lengths, config)
    real = np.arange(speakers.shape[1]) < lengths[:, None]
    speaker, emotion = speakers[real], emotions[real]
    present = {name: rng.random(len(emotion)) >= config.missing for name in WIDTH}
    features = {
        name: np.where(present[name][:, None], mean[emotion] + rng.standard_normal((len(emotion), WIDTH[name])), 0)
        for name, mean in class_means(config).items()
    }
    cast = np.argsort(rng.random((dialogues, len(NAMES))), 1)  # who plays in which dialogue
    dialogue = np.repeat(np.arange(dialogues), lengths)
    names = [NAMES[i] for i in cast[dialogue, speaker]]
    row = np.arange(len(emotion))
    start = lengths.cumsum() - lengths
    previous = np.where(row == start[dialogue], row + 1, row - 1).clip(max=len(row) - 1)
    to = [NAMES[i] for i in cast[dialogue, np.where(speaker[previous] != speaker, speaker[previous], (speaker + 1) % 2)]]
    ids = tuple(f"sample-{i:0{len(str(dialogues - 1))}d}" for i in range(dialogues))
    labels = tuple(TASK.labels[e] for e in emotion)
    dev, test = (max(1, round(dialogues * SHARES[name])) for name in SPLITS[1:])
    cut = (0, dialogues - dev - test, dialogues - test, dialogues)
    return Corpus(
        name="sample",
        task=TASK,
        dialogue_ids=ids,
        ptr=torch.from_numpy(np.concatenate([[0], lengths.cumsum()])),
        utterance_ids=tuple(f"{ids[d]}_{r}" for d, r in zip(dialogue, row - start[dialogue], strict=True)),
        speakers=tuple(names),
        texts=sentences(rng, emotion, present["text"], to),
        target=apply_task(TASK, {"label": labels}, len(labels)),
        features={name: torch.from_numpy(value.astype(np.float32)) for name, value in features.items()},
        present={name: torch.from_numpy(value) for name, value in present.items()},
        splits={name: ids[cut[i] : cut[i + 1]] for i, name in enumerate(SPLITS)},
        annotations={"label": labels},
        provenance={
            "format": "generated sample corpus",
            "sample": {"dialogues": dialogues, "seed": seed, **asdict(config)},
        },
    )
