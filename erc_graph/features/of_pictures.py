"""Preparation of the extraction of visual features: the input utterances, the image model, and the metadata of the feature file."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from erc_graph.data.corpus import Corpus
from erc_graph.data.files.media import find_files
from erc_graph.data.files.pictures import ENDINGS, evenly_spaced, read_frames
from erc_graph.errors import ConfigError, CorpusError
from erc_graph.features.device import find_device, find_precision
from erc_graph.features.extract import Extraction, versions
from erc_graph.features.features_config import FeaturesConfig
from erc_graph.features.frames import FrameEncoder
from erc_graph.features.processes import Share


def picture_extraction(corpus: Corpus, config: FeaturesConfig, share: Share) -> Extraction:
    """Find the utterances with face frames, and load the image model.

    Raises:
        ConfigError: the option `layer` is set, but only the last layer of an image model can be used.
        CorpusError: there are no face frames, or `strict` is set and a file cannot be read.
    """
    if config.layer != -1:
        raise ConfigError(f"layer: expected -1 for an image model, because only its last layer can be used, found {config.layer}")
    device = find_device(config.device, share.local)
    precision = find_precision(config.precision, device)
    own = corpus.sequences.get("visual")
    files: dict[str, Path] = {}
    if config.source is None:
        if own is None or len(own.item) != 3 or own.item[0] != 3:
            raise CorpusError(
                f"{corpus.name}: this corpus contains no face frames; give with --source a folder that has a video, an array file "
                "or a folder of images for each utterance, named by the utterance id"
            )
        rows = own.present.nonzero()[:, 0].tolist()
        ids = [corpus.utterance_ids[row] for row in rows]
    else:
        files = find_files(Path(config.source), corpus.utterance_ids, ENDINGS, "face frames")
        ids = list(files)
    encoder = FrameEncoder(config.model, device=device, precision=precision)

    def frames(row: int) -> Tensor:
        if own is None or config.source is not None:
            return read_frames(files[ids[row]], config.frames)
        whole = own[rows[row]]
        return whole[evenly_spaced(len(whole), config.frames)]

    def compute(chosen: list[int]) -> list[Tensor | str]:
        found: list[Tensor | str] = []
        for row in chosen:
            try:
                seen = encoder(frames(row))
                found.append(seen if config.pooling == "frames" else seen.mean(0))
            except CorpusError as error:
                if config.strict:
                    raise CorpusError(f"{error}, which --strict does not allow; without --strict, this utterance is left out") from None
                found.append(str(error))
        return found

    note = {
        "modality": "visual", "model": config.model, "extractor": config.model, "revision": encoder.revision,
        "pooling": "frames" if config.pooling == "frames" else "mean", "frames": config.frames, "precision": precision,
        "without_file": corpus.utterances - len(ids),
        "versions": versions("erc_graph", "torch", "timm" if config.model.startswith("timm:") else "transformers"),
    }  # fmt: skip
    return Extraction(ids=ids, sizes=[1] * len(ids), compute=compute, budget=8, sequences=config.pooling == "frames", note=note)
