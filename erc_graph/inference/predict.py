"""From a raw conversation to what a pipeline reads: features by the extractors that the model names; the rest counts as missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from erc_graph.data.corpus import Corpus
from erc_graph.data.tasks import Task
from erc_graph.errors import CheckpointError, CorpusError
from erc_graph.pipelines.answer import complete
from erc_graph.pipelines.base import Pipeline

LONGEST = 2000  # turns: a complete graph has their square


def prepare(
    corpus: Corpus,
    pipeline: Pipeline,
    *,
    extractors: Mapping[str, str] | None = None,
    say: Callable[[str], None] | None = None,
    encode: Callable[[Sequence[str]], Tensor] | None = None,
) -> Corpus:
    """The conversations with every feature set that the pipeline reads, as far as it can be had.

    Vectors in the corpus are taken as they are. Text that lacks them goes through the encoder that the model names in its
    provenance. What then is not there is missing, and said. Labels become those of the pipeline's task, where they can.

    Args:
        corpus: From `load_transcript`, or any other.
        pipeline: Whose features are wanted.
        extractors: Modality → encoder, instead of those that the model names.
        say: Called with each remark for the user, once.
        encode: Sentences → vectors: an encoder that is loaded already.

    Raises:
        CorpusError: a conversation of more than `LONGEST` turns, vectors of another width, or nothing that can be computed.
        CheckpointError: the encoder cannot be found, or is another one than the model's by its width.
    """
    schema = pipeline.schema
    if int(corpus.lengths.max()) > LONGEST:
        raise CorpusError(f"{corpus.name}: a conversation of {int(corpus.lengths.max())} turns; expected up to {LONGEST}: divide it")
    named = {**schema.provenance.get("extractors", {}), **(extractors or {})}
    features = {name: corpus.features[name] for name in schema.widths if name in corpus.features}
    present = {name: corpus.present[name] for name in features}
    spoken = any(map(str.strip, corpus.texts))
    # A model may read several sentence vectors (`text`, `text_roberta`); a set of another name is one where the caller says so.
    for name in [name for name in schema.widths if name in named and (name.startswith("text") or name in (extractors or {}))]:
        if name in features or not spoken:
            continue
        features[name] = _encoded(corpus.texts, str(named[name]), schema.widths[name], name, encode)
        present[name] = torch.tensor([bool(text.strip()) for text in corpus.texts])
    if not features:
        raise CorpusError(_nothing(corpus, pipeline, named))
    absent = [name for name in schema.widths if name not in features]
    if absent and say:
        made = [f"{name} ({named[name]})" if name in named else name for name in absent]
        say(f"{', '.join(made)}: no vectors given and none that can be computed here; counts as missing in every turn")
    return complete(replace(_for_task(corpus, pipeline.task), features=features, present=present), pipeline)


def _for_task(corpus: Corpus, task: Task) -> Corpus:
    """The corpus with the labels of the task; without any where it knows others."""
    if corpus.task == task:
        return corpus
    try:
        return corpus.with_task(task)
    except CorpusError:
        score = task.kind == "score"
        nothing = torch.full((corpus.utterances,), float("nan")) if score else torch.full((corpus.utterances,), -1)
        return replace(corpus, task=task, target=nothing)


def _encoded(texts: Sequence[str], name: str, width: int, modality: str, encode: Callable[[Sequence[str]], Tensor] | None) -> Tensor:
    if encode is None:
        from erc_graph.features.tuned import load_text_encoder

        encode = load_text_encoder(name)
    vectors = encode(texts)
    if vectors.shape[1] != width:
        raise CheckpointError(f"{modality}: the model reads vectors of {width} numbers, the encoder {name!r} gives {vectors.shape[1]}")
    return vectors


def _nothing(corpus: Corpus, pipeline: Pipeline, named: Mapping[str, object]) -> str:
    widths = ", ".join(f'"{name}": [{width} numbers]' for name, width in pipeline.schema.widths.items())
    if any(name.startswith("text") and name in named for name in pipeline.schema.widths):
        return f'{corpus.name}: nothing is said in it, and no vectors are given; expected text, or in JSON "features": {{{widths}}}'
    return (
        f"{corpus.name}: this model reads vectors for which it names no text encoder; give them per turn in JSON, "
        f'"features": {{{widths}}}, or name the encoder that they were made with (--extractor text=FOLDER)'
    )
