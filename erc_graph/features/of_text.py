"""Features of the text of a corpus: which utterances have words, through which encoder they go, and what the file says about it."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from torch import Tensor

from erc_graph.data.corpus import Corpus
from erc_graph.errors import CorpusError
from erc_graph.features.context import readings
from erc_graph.features.device import find_device, find_precision
from erc_graph.features.encoder_names import join_options
from erc_graph.features.extract import Extraction, versions
from erc_graph.features.features_config import FeaturesConfig
from erc_graph.features.fine_tuning import TuningConfig, tune
from erc_graph.features.processes import Share
from erc_graph.features.text import TextEncoder, revision
from erc_graph.features.tuned import TunedEncoder


def text_extraction(corpus: Corpus, config: FeaturesConfig, tuning: TuningConfig, share: Share, quiet: bool | None = None) -> Extraction:
    """Find the utterances that have words, and the encoder; tunes it first where that is wanted.

    Raises:
        CorpusError: no texts; or `strict` and a text that is longer than the model takes.
    """
    rows = [row for row, text in enumerate(corpus.texts) if text.strip()]
    if not rows:
        raise CorpusError(f"{corpus.name}: expected texts, found {'none' if not corpus.texts else 'nothing but empty ones'}")
    dialogues = [corpus.dialogue_ids[i] for i in corpus.dialogue_of[rows].tolist()]
    device = find_device(config.device, share.local)
    precision = find_precision(config.precision, device)
    encoder: TextEncoder | TunedEncoder
    if config.fine_tune:
        folder = Path(config.encoders or f"{config.out.removesuffix('.safetensors')}.tuned")
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
        encoder = TextEncoder(config.model, device=device, pooling=config.pooling, layer=config.layer, precision=precision)
        given = {"pooling": (config.pooling, "own"), "layer": (config.layer, -1)}
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
            f"{corpus.name}: {len(cut)} texts are longer than the {encoder.longest} tokens that {config.model} takes (first: "
            f"{corpus.utterance_ids[rows[cut[0]]]}), refused by strict; without it they are cut"
        )

    sequences = config.pooling in ("words", "tokens")

    def compute(chosen: list[int]) -> list[Tensor | str]:
        said = [texts[i] for i in chosen]
        if isinstance(encoder, TunedEncoder):
            return list(encoder(said, dialogues=[dialogues[i] for i in chosen], tokens=config.tokens))
        return list(encoder.words(said, tokens=config.tokens) if sequences else encoder(said, tokens=config.tokens))

    note = {
        "modality": "text", "model": config.model, **made, "precision": precision, "cut_to_length": len(cut), "longest": encoder.longest,
        "versions": versions("erc_graph", "torch", "tokenizers", *(("transformers",) if config.fine_tune else ())),
    }  # fmt: skip
    return Extraction(
        ids=[corpus.utterance_ids[row] for row in rows], sizes=[len(one) for one in ids], compute=compute, budget=config.tokens,
        sequences=sequences, note=note, inputs=hashlib.sha256(json.dumps(texts).encode()).hexdigest(),
    )  # fmt: skip
