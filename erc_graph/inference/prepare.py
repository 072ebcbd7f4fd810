"""Computation of the features that a pipeline uses, with the encoders that its model names."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from erc_graph.data.corpus import Corpus
from erc_graph.data.files.sound import read_sound
from erc_graph.data.printable import count
from erc_graph.data.ragged import Ragged, shape_text
from erc_graph.data.tasks import Task
from erc_graph.errors import CheckpointError, ConfigError, CorpusError
from erc_graph.inference.answer import complete
from erc_graph.inference.starter import shown
from erc_graph.methods.schema import Schema

if TYPE_CHECKING:
    from erc_graph.inference.pipeline import Pipeline

LONGEST = 2000  # turns: a complete graph has their square
NOT_SPOKEN = re.compile(r"[\[(（【][^\])）】]*[\])）】]|[♪♫].*")  # the whole text: a sound in brackets, or music
SECONDS = 30.0  # of a recording; what is longer is cut there, as `erc-graph features` does


def prepare(
    corpus: Corpus,
    pipeline: Pipeline,
    *,
    extractors: Mapping[str, str] | None = None,
    recordings: Mapping[str, Path] | None = None,
    say: Callable[[str], None] | None = None,
    encode: Callable[[Sequence[str]], Tensor] | None = None,
    load: Callable[[str], Any] | None = None,
    longest: int | None = LONGEST,
) -> Corpus:
    """Return a copy of the corpus with those features that the pipeline uses and that can be computed.

    Features that the corpus already has are used unchanged. Other features are computed from text and audio, with the encoders that the
    model names. If the model uses raw waveforms, they are read from the recordings. Features that cannot be computed count as missing, and
    a note reports them. Labels are converted to the labels of the pipeline's task. If this conversion is impossible, all utterances become
    unlabelled.

    Args:
        corpus: A corpus, for example from `load_transcript`.
        pipeline: The pipeline that will read the features.
        extractors: Modality → name of an encoder, which replaces the encoder that the model names for this modality.
        recordings: Utterance id → audio file, for example from `find_recordings`. Default: no files; only waveforms in the corpus are used.
        say: Function that is called once with each note for the user.
        encode: An encoder that is already loaded: a function from sentences to vectors.
        load: Function that loads a text encoder by its name, for example from a cache; default: `load_text_encoder`.
        longest: Largest number of utterances of a conversation; `None`: no limit.

    Raises:
        CorpusError: a conversation has more than `longest` utterances, vectors have a wrong width, or no feature can be computed.
        ConfigError: `extractors` names a modality that the pipeline does not use.
        CheckpointError: an encoder cannot be found, or its vectors do not have the width that the model uses.
    """
    schema = pipeline.schema
    if longest is not None and int(corpus.lengths.max()) > longest:
        raise CorpusError(
            f"{corpus.name}: expected up to {longest} utterances per conversation, found a conversation of "
            f"{int(corpus.lengths.max())}; divide this conversation"
        )
    if unknown := [name for name in extractors or {} if name not in schema.modalities]:
        raise ConfigError(f"extractor: expected a modality that the model uses ({', '.join(schema.modalities)}), found {unknown[0]!r}")
    named = {**schema.provenance.get("extractors", {}), **(extractors or {})}
    features = {name: corpus.features[name] for name in schema.widths if name in corpus.features}
    present = {name: corpus.present[name] for name in features}
    spoken = any(map(str.strip, corpus.texts))
    remarks: list[str] = []
    # A model may read several sentence vectors (`text`, `text_roberta`); a set of another name is one where the caller says so.
    sequences = {name: corpus.sequences[name] for name in schema.sequences if name in corpus.sequences}
    for name, encoder in text_encoders(pipeline, extractors).items():
        if name in features or name in sequences or not spoken:
            continue
        if name in schema.sequences:
            sequences[name] = _words(corpus.texts, encoder, load, remarks)
            continue
        features[name] = _encoded(corpus, encoder, schema.widths[name], name, encode, load, remarks)
        present[name] = torch.tensor([bool(text.strip()) for text in corpus.texts])
        if sounds := sum(bool(NOT_SPOKEN.fullmatch(text.strip())) for text in corpus.texts):
            remarks.append(
                f"text: {sounds} of {corpus.utterances} utterances contain only music or a sound in brackets, which the model "
                f"treats as words"
            )
        if silent := corpus.utterances - int(present[name].sum()):
            remarks.append(f"text: {silent} of {corpus.utterances} utterances have no words and count as missing")
    if unread := [name for name in corpus.features if name not in schema.widths]:
        remarks.append(f"features of {', '.join(unread)[:200]} are not used: the model uses {', '.join(schema.modalities)}")
    here = {*features, *sequences}
    unheard = [name for name in (*schema.widths, *schema.sequences) if name.startswith("audio") and name not in here]
    if unheard and (waves := _waves(corpus, recordings or {}, remarks)) is not None:
        for name in unheard:
            if schema.sequences.get(name) == ():
                sequences[name] = waves
            elif name in schema.widths and name in named:
                try:
                    features[name], present[name] = _heard(waves, str(named[name]), schema.widths[name], name)
                except (CheckpointError, ConfigError) as error:  # made by something that is no encoder, or is not here
                    if name in (extractors or {}):
                        raise
                    remarks.append(str(error))
    if not features and not sequences:
        raise CorpusError(_nothing(corpus, pipeline, named))
    if absent := [name for name in (*schema.widths, *schema.sequences) if name not in {*features, *sequences}]:
        made = [f"{name} ({named[name]})" if name in named else name for name in absent]
        remarks.append(f"{', '.join(made)}: not in the input, and cannot be computed here; counted as missing in every utterance")
    if say:
        for remark in dict.fromkeys(remarks):
            say(remark)
    return complete(replace(_for_task(corpus, pipeline.task), features=features, present=present, sequences=sequences), pipeline.method)


def lacks(corpus: Corpus, schema: Schema) -> bool:
    """Return whether the corpus lacks feature vectors or feature sequences that the pipeline uses."""
    return not (corpus.features.keys() >= schema.widths.keys() and corpus.sequences.keys() >= schema.sequences.keys())


def hears(schema: Schema) -> bool:
    """Return whether the pipeline uses audio features or waveforms, which can be computed from recordings."""
    return any(name.startswith("audio") for name in schema.modalities)


def text_encoders(pipeline: Pipeline, extractors: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return a dict from modality to the name of its text encoder. Names in `extractors` override the names stored in the model."""
    schema, chosen = pipeline.schema, extractors or {}
    named = {**schema.provenance.get("extractors", {}), **chosen}
    vectors = [name for name in schema.widths if name.startswith("text") or (name in chosen and not name.startswith("audio"))]
    states = [name for name in schema.sequences if name.startswith("text")]
    return {name: str(named[name]) for name in (*vectors, *states) if name in named}


def _for_task(corpus: Corpus, task: Task) -> Corpus:
    """Return the corpus with the labels of the task; if the labels cannot be converted, all utterances are unlabelled."""
    if corpus.task == task:
        return corpus
    try:
        return corpus.with_task(task)
    except CorpusError:
        score = task.kind == "score"
        nothing = torch.full((corpus.utterances,), float("nan")) if score else torch.full((corpus.utterances,), -1)
        return replace(corpus, task=task, target=nothing)


def _waves(corpus: Corpus, recordings: Mapping[str, Path], remarks: list[str]) -> Ragged | None:
    """Return the waveforms of all utterances from the corpus, or else from the recordings; `None` if there are no waveforms.

    Recordings that cannot be read are reported in `remarks`.
    """
    own = corpus.sequences.get("audio")
    if own is not None and own.item == ():
        return own
    waves, broken = [], []
    for name in corpus.utterance_ids:
        wave = torch.zeros(0)
        if name in recordings:
            try:
                wave = read_sound(recordings[name], seconds=SECONDS)
            except (CorpusError, ConfigError) as error:
                broken.append(str(error))
        waves.append(wave)
    if broken:
        rest = len(broken) - 1
        remarks.append(broken[0] + (f"; and {count(rest, 'more recording')}" if rest else ""))
    return Ragged.of(waves) if any(len(wave) for wave in waves) else None


def _heard(waves: Ragged, name: str, width: int, modality: str) -> tuple[Tensor, Tensor]:
    """Return the encoded waveforms `(U, width)`, and a mask `(U,)` of the utterances that have a vector."""
    rows = waves.present.nonzero()[:, 0].tolist()
    heard = _sound_encoder(name)([waves[row] for row in rows])
    vectors, present = torch.zeros(len(waves), width), torch.zeros(len(waves), dtype=torch.bool)
    for row, vector in zip(rows, heard, strict=True):
        if isinstance(vector, str):  # why this one has none
            continue
        if len(vector) != width:
            raise CheckpointError(f"{modality}: expected vectors of {width} numbers, as in training, found {len(vector)} from {name!r}")
        vectors[row], present[row] = vector, True
    return vectors, present


@lru_cache(maxsize=2)
def _sound_encoder(name: str) -> Callable[[list[Tensor]], list[Tensor | str]]:
    """Load an audio encoder, and cache it, because loading a speech model takes seconds."""
    from erc_graph.features.of_sound import load_sound_encoder

    return load_sound_encoder(name)


def _loaded(name: str, load: Callable[[str], Any] | None) -> Any:
    from erc_graph.features.encoder_names import load_text_encoder

    return (load or load_text_encoder)(name)


def _encoded(
    corpus: Corpus,
    name: str,
    width: int,
    modality: str,
    encode: Callable[[Sequence[str]], Tensor] | None,
    load: Callable[[str], Any] | None,
    remarks: list[str],
) -> Tensor:
    if encode is None:
        from erc_graph.features.context import readings
        from erc_graph.features.unfamiliar import reading_remarks

        encoder = _loaded(name, load)
        read = readings(corpus, encoder.context)
        vectors = encoder(read)
        remarks += reading_remarks(encoder.tokens, corpus.texts, read, shown(name))
    else:
        vectors = encode(corpus.texts)
    if vectors.shape[1] != width:
        raise CheckpointError(f"{modality}: expected vectors of {width} numbers, as in training, found {vectors.shape[1]} from {name!r}")
    return vectors


def _words(texts: Sequence[str], name: str, load: Callable[[str], Any] | None, remarks: list[str]) -> Ragged:
    """Return the states of all tokens of every text, or the token ids if the pooling of the encoder is `tokens`."""
    from erc_graph.features.text import TextEncoder
    from erc_graph.features.unfamiliar import reading_remarks

    encoder = _loaded(name, load)
    if not isinstance(encoder, TextEncoder) or encoder.pooling not in ("words", "tokens"):
        raise CheckpointError(
            f"the model uses the states of all tokens, but the encoder {name!r} gives one vector per utterance; expected an "
            "encoder with pooling=words or tokens"
        )
    remarks += reading_remarks(encoder.tokens, texts, texts, shown(name))
    return Ragged.of([states if text.strip() else states[:0] for text, states in zip(texts, encoder.words(texts), strict=True)])


def _nothing(corpus: Corpus, pipeline: Pipeline, named: Mapping[str, object]) -> str:
    if not pipeline.schema.widths:
        read = ", ".join(f"{name} ({shape_text(item)})" for name, item in pipeline.schema.sequences.items())
        return f"{corpus.name}: this model uses sequences: {read}; expected a corpus with these sequences, or recordings for its audio"
    widths = ", ".join(f'"{name}": [{width} numbers]' for name, width in pipeline.schema.widths.items())
    if corpus.features:
        return f'{corpus.name}: expected "features": {{{widths}}}, found only {", ".join(corpus.features)[:200]}'
    if any(name.startswith("text") and name in named for name in pipeline.schema.widths):
        return f'{corpus.name}: expected text, or "features": {{{widths}}} in JSON, found neither'
    return (
        f"{corpus.name}: this model names no text encoder for the vectors that it uses; give vectors per utterance in JSON, "
        f'"features": {{{widths}}}, or name the encoder of the training (--extractor text=FOLDER, or `extractors` of `prepare`)'
    )
