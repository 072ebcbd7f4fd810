"""Preparation of the extraction of audio features: the input utterances, the extractor, and the metadata of the feature file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from erc_graph.data.corpus import Corpus
from erc_graph.data.files.media import VIDEOS, find_files
from erc_graph.data.files.sound import ENDINGS, read_header, read_sound
from erc_graph.data.ragged import SAMPLING_RATE
from erc_graph.errors import ConfigError, CorpusError
from erc_graph.features.device import find_device, find_precision
from erc_graph.features.encoder_names import join_options, split_options
from erc_graph.features.extract import Extraction, versions
from erc_graph.features.features_config import FeaturesConfig
from erc_graph.features.processes import Share

SECONDS = 60.0  # of sound in a batch, padding included


def sound_extraction(corpus: Corpus, config: FeaturesConfig, share: Share) -> Extraction:
    """Find the utterances with a recording, and load the audio extractor.

    Raises:
        CorpusError: there are no recordings, or `strict` is set and a recording cannot be read or is too long.
    """
    ids, sizes, read, remarks = _recordings(corpus, config)
    hear, made = _extractor(config, share)

    def compute(rows: list[int]) -> list[Tensor | str]:
        waves: dict[int, Tensor] = {}
        found: dict[int, Tensor | str] = {}
        for row in rows:
            try:
                waves[row] = read(row)
            except CorpusError as error:
                found[row] = str(error)
        if config.strict and found:
            raise CorpusError(f"{next(iter(found.values()))}, which --strict does not allow; without --strict, this utterance is left out")
        found |= dict(zip(waves, hear(list(waves.values())), strict=True)) if waves else {}
        return [found[row] for row in rows]

    note = {
        "modality": "audio", "model": config.model, **made, "sampling_rate": SAMPLING_RATE, "seconds": config.seconds, **remarks,
    }  # fmt: skip
    return Extraction(
        ids=ids, sizes=sizes, compute=compute, budget=int(SECONDS * SAMPLING_RATE), sequences=config.pooling == "frames", note=note
    )


def load_sound_encoder(name: str) -> Callable[[list[Tensor]], list[Tensor | str]]:
    """Load an audio extractor by the name that a corpus or model stores.

    The result is a function of a list of waveforms. For each waveform, the function returns a vector, or a text with the reason for a
    missing vector.

    Raises:
        CheckpointError: the extractor is not found, or is not a speech model.
        ConfigError: openSMILE is not installed, or has no feature set of this name.
    """
    where, options = split_options(name)
    layer: Any = options.get("layer", "-1")
    config = FeaturesConfig(
        data="", model=where, out=".safetensors", modality="audio", layer=layer if layer.startswith("last4") else int(layer), device="cpu"
    )
    return _extractor(config, Share())[0]


def _recordings(corpus: Corpus, config: FeaturesConfig) -> tuple[list[str], list[int], Callable[[int], Tensor], dict[str, object]]:
    """Return utterance ids, the number of samples of each recording, a function that reads a recording, and metadata."""
    most = int(config.seconds * SAMPLING_RATE)
    if config.source is None:
        waves = corpus.sequences.get("audio")
        if waves is None or waves.item != ():
            raise CorpusError(
                f"{corpus.name}: this corpus contains no waveforms; give with --source a folder of audio files, each named by its "
                "utterance id"
            )
        rows = waves.present.nonzero()[:, 0].tolist()
        sizes = [waves.sizes[row] for row in rows]
        long = [corpus.utterance_ids[row] for row, size in zip(rows, sizes, strict=True) if size > most]
        _refuse_long(long, config)
        ids = [corpus.utterance_ids[row] for row in rows]
        return ids, [min(size, most) for size in sizes], lambda i: waves[rows[i]][:most], {"cut_to_length": len(long)}
    files = find_files(Path(config.source), corpus.utterance_ids, (*ENDINGS, *VIDEOS), "audio files or videos")
    ids, sizes, long = list(files), [], []
    rates: Counter[int] = Counter()
    for name, path in files.items():
        try:
            about = read_header(path)
        except CorpusError:  # said when its turn comes
            sizes.append(1)
            continue
        rates[about.rate] += 1
        long += [name] if about.seconds > config.seconds else []
        sizes.append(min(most, int(about.seconds * SAMPLING_RATE)))
    _refuse_long(long, config)
    others = {f"{rate} Hz": count for rate, count in sorted(rates.items()) if rate != SAMPLING_RATE}
    remarks: dict[str, object] = {"cut_to_length": len(long), "resampled": others, "without_file": corpus.utterances - len(files)}
    return ids, sizes, lambda i: read_sound(files[ids[i]], seconds=config.seconds), remarks


def _refuse_long(long: list[str], config: FeaturesConfig) -> None:
    if long and config.strict:
        raise CorpusError(
            f"{len(long)} recordings are longer than {config.seconds:g} seconds (first: {long[0]}), which --strict does not allow; omit "
            f"--strict to cut them, or set --seconds"
        )


def _extractor(config: FeaturesConfig, share: Share) -> tuple[Callable[[list[Tensor]], list[Tensor | str]], dict[str, Any]]:
    """Return a function that computes vectors or frames of waveforms, and metadata of the feature file."""
    packages = ("erc_graph", "torch")
    whole = config.pooling == "frames"
    if config.model == "mfcc":
        from erc_graph.features.mfcc import mfcc

        def coefficients(waves: list[Tensor]) -> list[Tensor | str]:
            return [_pooled(mfcc(wave[None], torch.ones(1, len(wave), dtype=torch.bool))[0][0], whole) for wave in waves]

        return coefficients, {"extractor": "mfcc", "versions": versions(*packages)}
    if config.model.startswith("opensmile:"):
        from erc_graph.features.functionals import Functionals

        if whole:
            raise ConfigError("pooling: expected 'own' for openSMILE's functionals, which have no frames, found 'frames'")
        functionals = Functionals(config.model.removeprefix("opensmile:"))
        said: dict[str, Any] = {"extractor": config.model, "versions": versions(*packages, "opensmile")}
        return (lambda waves: [functionals(wave) for wave in waves]), said
    from erc_graph.features.text import revision
    from erc_graph.features.waves import WaveEncoder

    device = find_device(config.device, share.local)
    precision = find_precision(config.precision, device)
    encoder = WaveEncoder(config.model, device=device, layer=config.layer, precision=precision)

    def hear(waves: list[Tensor]) -> list[Tensor | str]:
        short = f"shorter than the {encoder.shortest} samples that this model needs for a frame"
        heard = iter(encoder([wave for wave in waves if len(wave) >= encoder.shortest]))
        return [_pooled(next(heard), whole) if len(wave) >= encoder.shortest else short for wave in waves]

    said = {
        "extractor": join_options(config.model, **({} if config.layer == -1 else {"layer": config.layer})),
        "revision": revision(encoder.folder), "layer": config.layer, "precision": precision,
        "pooling": "frames" if whole else "mean", "versions": versions(*packages, "transformers"),
    }  # fmt: skip
    return hear, said


def _pooled(frames: Tensor, whole: bool) -> Tensor:
    return frames if whole else frames.mean(0)
