"""Preparation of the extraction of text features: the input utterances, the text encoder, and the metadata of the feature file."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from erc_graph.data.corpus import Corpus
from erc_graph.errors import ConfigError, CorpusError
from erc_graph.features.context import readings
from erc_graph.features.device import find_device, find_precision
from erc_graph.features.encoder_names import join_options
from erc_graph.features.extract import Extraction, versions
from erc_graph.features.features_config import FeaturesConfig
from erc_graph.features.fine_tuning import TuningConfig, tune
from erc_graph.features.principal import along, fit_axes, save_axes
from erc_graph.features.processes import Share
from erc_graph.features.text import TextEncoder, revision, seen_from
from erc_graph.features.tuned import TunedEncoder


def text_extraction(corpus: Corpus, config: FeaturesConfig, tuning: TuningConfig, share: Share, quiet: bool | None = None) -> Extraction:
    """Find the utterances with words, and load the text encoder. If requested, the encoder is fine-tuned first.

    Raises:
        CorpusError: there are no texts, or `strict` is set and a text is longer than the model allows.
        ConfigError: more principal components are requested than the training split allows.
    """
    rows = [row for row, text in enumerate(corpus.texts) if text.strip()]
    if not rows:
        raise CorpusError(f"{corpus.name}: expected texts, found {'none' if not corpus.texts else 'only empty texts'}")
    dialogues = [corpus.dialogue_ids[i] for i in corpus.dialogue_of[rows].tolist()]
    device = find_device(config.device, share.local)
    precision = find_precision(config.precision, device)
    encoder: TextEncoder | TunedEncoder
    if config.fine_tune:
        folder = Path(config.encoders or f"{config.out.removesuffix('.safetensors')}.tuned")
        tuning = replace(tuning, lora=config.lora, quantize=config.quantize)
        encoder = tune(
            corpus, config.model, folder, tuning, cross_fit=config.cross_fit, repeats=config.repeats, output=config.output, device=device,
            precision=precision, share=share, quiet=quiet,
        )  # fmt: skip
        output = {} if config.output == "features" else {"output": config.output}
        said = {key: encoder.about[key] for key in ("fitted_to", "chosen_on", "cross_fit", "settings")} | {"repeats": config.repeats}
        fitted = {"dialogues": list(corpus.splits["train"]), "cross_fit": config.cross_fit}
        place = os.path.relpath(folder, Path(config.out).parent)  # where it stands, seen from the feature file
        made = {"extractor": join_options(Path(place).as_posix(), **output), "output": config.output, **said, "fitted": fitted}
    else:
        encoder = TextEncoder(
            config.model, device=device, pooling=config.pooling, layer=config.layer, precision=precision, quantize=config.quantize
        )
        given = {"pooling": (config.pooling, "own"), "layer": (config.layer, -1), "quantize": (config.quantize, "no")}
        unusual = {name: value for name, (value, usual) in given.items() if value != usual}
        made = {
            "extractor": join_options(config.model, **unusual),
            "revision": revision(encoder.folder),
            "pooling": encoder.pooling,
            "layer": config.layer,
        }
    read = readings(corpus, encoder.context)
    texts = [read[row] for row in rows]
    ids, cut = encoder.tokens(texts)
    if cut and config.strict:
        raise CorpusError(
            f"{corpus.name}: {len(cut)} texts are longer than {encoder.longest} tokens, the limit of {config.model} (first: "
            f"{corpus.utterance_ids[rows[cut[0]]]}), which --strict does not allow; without --strict, these texts are cut"
        )

    finish = _components(corpus, config, rows, encoder.width, unusual) if config.pca else None
    sequences = config.pooling in ("words", "tokens")

    def compute(chosen: list[int]) -> list[Tensor | str]:
        said = [texts[i] for i in chosen]
        if isinstance(encoder, TunedEncoder):
            return list(encoder(said, dialogues=[dialogues[i] for i in chosen], tokens=config.tokens))
        return list(encoder.words(said, tokens=config.tokens) if sequences else encoder(said, tokens=config.tokens))

    libraries = ["erc_graph", "torch", "tokenizers", *(["transformers"] if config.fine_tune else []), *(["peft"] if config.lora else [])]
    note = {
        "modality": "text", "model": config.model, **made, "precision": precision, "cut_to_length": len(cut), "longest": encoder.longest,
        "versions": versions(*libraries),
    }  # fmt: skip
    return Extraction(
        ids=[corpus.utterance_ids[row] for row in rows], sizes=[len(one) for one in ids], compute=compute, budget=config.tokens,
        sequences=sequences, note=note, inputs=hashlib.sha256(json.dumps(texts).encode()).hexdigest(), finish=finish, half=config.half,
    )  # fmt: skip


def _components(
    corpus: Corpus, config: FeaturesConfig, rows: list[int], width: int, options: dict[str, Any]
) -> Callable[[Sequence[str], Tensor], tuple[Tensor, dict[str, Any]]]:
    """Return a function that fits and saves principal components of training utterances, and projects all vectors.

    Raises:
        ConfigError: there are more components than training utterances, or more components than numbers in a vector.
    """
    train = {corpus.utterance_ids[row] for row in corpus.rows(corpus.position[name] for name in corpus.splits.get("train", ())).tolist()}
    fitted = len(train & {corpus.utterance_ids[row] for row in rows})
    if config.pca > min(fitted, width):
        raise ConfigError(
            f"pca: expected up to {min(fitted, width)} components, because vectors have {width} numbers and {fitted} training utterances "
            f"have words, found {config.pca}"
        )
    folder = Path(f"{config.out.removesuffix('.safetensors')}.pca")
    words = f"{fitted} utterances of the training split of {corpus.name}"

    def finish(ids: Sequence[str], vectors: Tensor) -> tuple[Tensor, dict[str, Any]]:
        axes, share = fit_axes(vectors[[row for row, name in enumerate(ids) if name in train]], config.pca)
        save_axes(folder, axes, join_options(seen_from(folder, config.model), **options), words)
        said = {"components": config.pca, "variance": round(share, 4), "fitted_to": words}
        return along(axes, vectors), {"extractor": folder.name, "pca": said}

    return finish
