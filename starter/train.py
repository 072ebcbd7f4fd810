"""`python -m starter.train --goemotions FOLDER --emorynlp FOLDER`: train the starter model of the package (`make starter`).

Low-rank adapters of all-MiniLM-L6-v2 are fine-tuned on single utterances of both corpora: once on all training utterances, and once per
fold. A graph network is trained on the outputs of the encoders of the folds; each encoder encodes only dialogues that it was not trained
on. The package contains the encoder that was trained on all training utterances. The scores are calibrated on the development splits with
this encoder. The model is written to `erc_graph/starter`. Finished steps are stored in the folder `--work`, and are not repeated.
`--compare` also trains the graph networks that were not selected, and records the development metrics of all graph networks. The training
takes 40 minutes on two idle CPU cores. The same command on the same machine gives the same model.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from erc_graph.data.corpus import Corpus
from erc_graph.data.files.storage import atomic_folder, load_tensors, save_tensors, write_json
from erc_graph.data.files.toml import read_toml
from erc_graph.errors import ConfigError
from erc_graph.features.fine_tuning import TuningConfig, tune
from erc_graph.features.low_rank import ADAPTER, ADAPTER_CONFIG
from erc_graph.features.tokens import read_json
from erc_graph.features.tuned import TunedEncoder
from erc_graph.features.tuned_files import ABOUT, HEAD
from erc_graph.inference.saved import load_network, save_network
from erc_graph.training.config import TrainingConfig
from starter.graph import CHANCES, held_out, judged, temperature, train_graph
from starter.joined import Joined, thinned, training_corpus
from starter.shared_dialogues import listed

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "erc_graph" / "starter"
CHOICE = ROOT / "experiments" / "results" / "starter" / "choice.json"
PROCESSES = 2
SAID = "chances.safetensors"
FOLDS, WHOLE = "folds", "whole"  # sections of settings.toml, and folders


def settings() -> dict[str, Any]:
    """Return the content of settings.toml."""
    return read_toml(Path(__file__).with_name("settings.toml"), ConfigError)


def side_by_side(function: Callable[..., Any], *arguments: Sequence[Any]) -> list[Any]:
    """Call a function in parallel with several arguments, in processes with one thread each."""
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
        return list(pool.map(function, *arguments))


def corpus_of(sources: tuple[str, str]) -> Joined:
    """Return the corpus of the two folders, without the dialogues that share texts with MELD."""
    return training_corpus(*sources, listed())


def graph_corpus(sources: tuple[str, str]) -> Joined:
    """Return the corpus on which the graph is trained."""
    return thinned(corpus_of(sources), settings()["comments"])


def fine_tune(sources: tuple[str, str], work: Path, name: str) -> None:
    """Fine-tune the encoders of the folds (`FOLDS`), or the encoder of all training utterances (`WHOLE`)."""
    torch.set_num_threads(1)
    own = settings()["encoder"]
    folds, config = own["cross_fit"] if name == FOLDS else 0, TuningConfig(**own[name])
    tune(corpus_of(sources).corpus, own["name"], work / name, config, cross_fit=folds, precision=own["precision"], quiet=True)


def encode(sources: tuple[str, str], work: Path, number: int) -> torch.Tensor:
    """Return the encoder outputs of part `number` of the utterances; a training dialogue is encoded by an encoder not trained on it."""
    torch.set_num_threads(1)
    corpus = graph_corpus(sources).corpus
    names = [corpus.dialogue_ids[place] for place in corpus.dialogue_of.tolist()][number::PROCESSES]
    texts, training = corpus.texts[number::PROCESSES], set(corpus.splits["train"])
    of_training = torch.tensor([name in training for name in names])
    said = torch.empty(len(texts), len(corpus.task.labels))
    for name, there in ((FOLDS, of_training), (WHOLE, ~of_training)):
        rows, ask = there.nonzero()[:, 0].tolist(), TunedEncoder(work / name, output="log-probabilities")
        said[there] = ask([texts[row] for row in rows], dialogues=[names[row] for row in rows])
    return said


def with_chances(corpus: Corpus, work: Path) -> Corpus:
    """Return the corpus with the encoder outputs of `make_chances` as features."""
    here = torch.tensor([bool(text.strip()) for text in corpus.texts])
    return replace(corpus, features=load_tensors(work / SAID)[0], present={CHANCES: here})


def make_chances(sources: tuple[str, str], work: Path) -> None:
    """Fine-tune the encoders and compute their outputs, unless this was already done."""
    side_by_side(fine_tune, [sources] * 2, [work] * 2, [WHOLE, FOLDS])
    if not (work / SAID).is_file():
        parts = side_by_side(encode, [sources] * PROCESSES, [work] * PROCESSES, range(PROCESSES))
        said = torch.empty(sum(map(len, parts)), parts[0].shape[1])
        for number, part in enumerate(parts):
            said[number::PROCESSES] = part
        save_tensors(work / SAID, {CHANCES: said})


def make_graph(sources: tuple[str, str], work: Path, name: str, seed: int) -> dict[str, Any]:
    """Train a graph, save it in `work`, and return its development metrics; results of an earlier call are reused."""
    torch.set_num_threads(1)
    folder = work / "graphs" / f"{name}-{seed}"
    if not (folder / "figures.json").is_file():
        own, joined = settings(), graph_corpus(sources)
        corpus, training = with_chances(joined.corpus, work), TrainingConfig(**own["training"])
        method, figures = train_graph(joined, corpus, own["graphs"][name], training, seed)
        save_network(method, folder / "model")
        write_json(folder / "figures.json", figures)
    return dict(json.loads((folder / "figures.json").read_text(encoding="ascii")))


def encoder_alone(joined: Joined, work: Path) -> dict[str, Any]:
    """Return the development metrics of the encoder without a graph, calibrated in the same way."""
    scores = with_chances(joined.corpus, work).features[CHANCES]
    by = temperature(list(held_out(joined, scores).values()))
    return {"temperature": by, **judged(joined, scores / by)}


def pack_encoder(folder: Path, out: Path) -> None:
    """Copy a fine-tuned encoder, with its matrices in 16 bits."""
    names = list(read_json(folder / ABOUT)["members"])
    with atomic_folder(out, [ABOUT, *names]) as temporary:
        shutil.copyfile(folder / ABOUT, temporary / ABOUT)
        for name in names:
            (temporary / name).mkdir()
            shutil.copyfile(folder / name / ADAPTER_CONFIG, temporary / name / ADAPTER_CONFIG)
            matrices = load_tensors(folder / name / ADAPTER)[0]
            save_tensors(temporary / name / ADAPTER, {key: value.half() for key, value in matrices.items()}, {"format": "pt"})
            save_tensors(temporary / name / HEAD, load_tensors(folder / name / HEAD)[0])


def main(argv: list[str] | None = None) -> int:
    """Train the model, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m starter.train", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--goemotions", required=True, help="folder with train.tsv, dev.tsv, test.tsv and the names of the labels")
    parser.add_argument("--emorynlp", required=True, help="folder of the corpus")
    parser.add_argument("--work", type=Path, default=Path("runs/starter"), help="folder of finished steps (default: runs/starter)")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the model (default: erc_graph/starter)")
    parser.add_argument("--compare", action="store_true", help="also train the graphs that were not selected, and record all metrics")
    options = parser.parse_args(argv)
    sources, work, own = (options.goemotions, options.emorynlp), options.work, settings()
    make_chances(sources, work)
    wanted = [(name, seed) for name in (own["graphs"] if options.compare else [own["chosen"]]) for seed in own["seeds"]]
    figures = side_by_side(make_graph, [sources] * len(wanted), [work] * len(wanted), *zip(*wanted, strict=True))
    if options.compare:
        found: dict[str, Mapping[str, Any]] = {f"{name}, seed {seed}": one for (name, seed), one in zip(wanted, figures, strict=True)}
        write_json(CHOICE, {"encoder alone": encoder_alone(graph_corpus(sources), work), **found})
    pack_encoder(work / WHOLE, options.out / "encoder")
    save_network(load_network(work / "graphs" / f"{own['chosen']}-{own['seeds'][0]}" / "model"), options.out / "model")
    print(f"written: {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
