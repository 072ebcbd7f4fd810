"""The SHA-256 hash of the content of a corpus. Result files store this hash to identify the corpus."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from erc_graph.data.corpus import Corpus


def corpus_sha256(corpus: Corpus) -> str:
    """Compute the SHA-256 of a corpus: dialogues, speakers, texts, targets, task, splits, features and missing modalities.

    The hash depends only on the content, not on the files. A corpus that is saved and loaded again has the same hash on any machine.
    Another order of the labels in `corpus.toml` changes the hash. Annotations that the task does not use do not change the hash.

    >>> from erc_graph.data.files.load import load_corpus
    >>> corpus_sha256(load_corpus("sample")) == corpus_sha256(load_corpus("sample", name="renamed"))
    True
    """
    task = corpus.task
    tensors = {"ptr": corpus.ptr, "target": corpus.target}
    for name in sorted(corpus.features):
        tensors[f"features/{name}"], tensors[f"present/{name}"] = corpus.features[name], corpus.present[name]
    for name in sorted(corpus.sequences):
        tensors[f"sequences/{name}"], tensors[f"sequences_ptr/{name}"] = corpus.sequences[name].values, corpus.sequences[name].ptr
    arrays = {name: values.detach().cpu().contiguous().numpy() for name, values in tensors.items()}
    content = {
        "task": [task.name, task.labels, task.kind],
        "dialogue_ids": corpus.dialogue_ids,
        "utterance_ids": corpus.utterance_ids,
        "speakers": corpus.speakers,
        "texts": corpus.texts,
        "splits": {split: ids for split, ids in corpus.splits.items() if ids},
        # Type and shape say where one array ends and the next begins.
        "arrays": [[name, array.dtype.name, array.shape] for name, array in arrays.items()],
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode("ascii"))
    for array in arrays.values():
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        digest.update(little.reshape(-1).view(np.uint8).data)  # no copy: reading is all that it costs
    return digest.hexdigest()
