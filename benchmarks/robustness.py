"""Robustness to failing modalities: weighted F1 if part of the feature vectors of a modality is missing or replaced by noise.

    python -m benchmarks.robustness --data corpora/mosi --seeds 3 [--json FILE] [--png FILE]
    python -m benchmarks.robustness --data corpora/mosi --seeds 3 --folds 5 --others visual

Three methods are compared on the same inputs, folds and seeds. Each method is trained without modality dropout and with two rates of
modality dropout:

- hierarchical feature fusion, with the settings in `experiments/hff/` for the corpus;
- concatenation: the same network, but a linear layer and a ReLU over all modalities replace the fusion. This network has one node per
  utterance, because its results are worse with more nodes;
- the BiGRU, with the same swap noise as hierarchical feature fusion, and also without swap noise.

Each method is trained once per seed. Then one modality at a time fails in randomly drawn test utterances. The utterances are drawn ten
times, equally for all methods, and a result is the mean over the ten draws. Noise is normally distributed with the mean and standard
deviation of each feature in the training split.

With `--folds K`, the test split is not used. Every training and development dialogue is evaluated once, by a network that was trained on
the other folds. Metrics are computed over all these dialogues. `--others` names modalities with features that were fitted to the labels of
these dialogues. In the evaluation, such features are replaced by those of random utterances of other dialogues, also in ten draws.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.model_selection import KFold
from torch import Tensor
from tqdm import tqdm

from erc_graph.data.batch import Batch
from erc_graph.data.files.load import load_corpus
from erc_graph.data.files.storage import write_json
from erc_graph.data.files.toml import read_toml
from erc_graph.data.splits import Fold, folds
from erc_graph.experiments.baseline import baseline_of
from erc_graph.experiments.environment import environment
from erc_graph.experiments.experiment import Experiment, experiment_file, from_dict
from erc_graph.experiments.jobs import Job
from erc_graph.experiments.run import Parts, train_job
from erc_graph.methods.stage import infer
from erc_graph.report.text_tables import text_table
from erc_graph.training.metrics import evaluate

RESULTS = Path(__file__).resolve().parents[1] / "experiments" / "results"
SHARES = (0.0, 0.2, 0.4, 0.6, 0.8)
HIDDEN = (0.2, 0.5)  # of the modalities, in training with modality dropout
DRAWS = 10  # of the utterances that fail: in one draw of MOSI's test part a single utterance is 0.13 points
STYLES = {f"dropout {share}": style for share, style in zip(HIDDEN, ("--", "-."), strict=True)} | {"without": ":"}


def failed(batch: Batch, train: Batch, modality: str, kind: str, share: float, seed: int = 0) -> Batch:
    """Return the batch with a share of a modality's vectors missing or replaced by noise; a larger share includes a smaller one.

    Args:
        batch: Test dialogues.
        train: Training dialogues, for mean and standard deviation of the noise.
        modality: Modality that fails.
        kind: `missing` or `noise`.
        share: Share of the utterances, from 0 to 1.
        seed: Seed of the choice of utterances and of the noise.
    """
    random = torch.Generator().manual_seed(seed)
    gone = torch.rand(batch.utterances, generator=random).to(batch.device) < share
    if kind == "missing":
        return replace(batch, present={**batch.present, modality: batch.present[modality] & ~gone})
    known = train.features[modality][train.present[modality]]
    noise = torch.randn(batch.features[modality].shape, generator=random) * known.std(0).cpu() + known.mean(0).cpu()
    values = torch.where(gone[:, None], noise.to(batch.device), batch.features[modality])
    return replace(batch, features={**batch.features, modality: values})


def with_vectors_of_others(batch: Batch, modalities: Sequence[str], seed: int = 0) -> Batch:
    """Return the batch in which these modalities are taken from random utterances of other dialogues."""
    if modalities and len(batch) < 2:
        raise SystemExit("--others: expected two or more dialogues in every fold, found one")
    own = torch.bincount(batch.dialogue)[batch.dialogue]
    drawn = torch.rand(batch.utterances, generator=torch.Generator().manual_seed(seed)).to(batch.device)
    rows = (drawn * (batch.utterances - own)).long()
    rows += torch.where(rows >= batch.ptr[batch.dialogue], own, 0)  # past the own dialogue
    features = batch.features | {name: batch.features[name][rows] for name in modalities}
    return replace(batch, features=features, present=batch.present | {name: batch.present[name][rows] for name in modalities})


def methods(experiment: Experiment, corpus: Any, shares: Sequence[float]) -> dict[str, Experiment]:
    """Return name → experiment of all compared methods, without modality dropout and with these rates of it."""
    each = {
        "HFF": experiment,
        "concatenation": experiment.changed({"pipeline.concatenate": True}),
        "BiGRU": baseline_of(experiment, corpus),
    }
    found = {
        f"{name}, modality dropout {share}" if share else name: one.changed({"inputs.modality_dropout": share})
        for share in (0.0, *shares)
        for name, one in each.items()
    }
    if not shares or not experiment.inputs.swap_noise:
        return found
    return found | {"BiGRU, without swap noise": found["BiGRU"].changed({"inputs.swap_noise": {}})}


def divisions(corpus: Any, experiment: Experiment, parts: int) -> list[Fold]:
    """Return the fold of the test split, or `parts` folds of all other dialogues."""
    if not parts:
        return list(folds(corpus, experiment.run.protocol))
    if experiment.training.selection != "last":
        raise SystemExit(f"--folds: expected settings with training.selection = 'last', found {experiment.training.selection!r}")
    ids = np.array([name for split in ("train", "dev") for name in corpus.splits.get(split, ())])
    if not 2 <= parts <= len(ids):
        raise SystemExit(f"--folds: expected 2 to {len(ids)}, the number of dialogues, found {parts}")
    cut = KFold(parts, shuffle=True, random_state=0).split(ids)
    return [Fold(name=f"fold {i}", train=tuple(ids[rest]), dev=(), test=tuple(ids[held])) for i, (rest, held) in enumerate(cut)]


def outcomes(job: Job, corpus: Any, others: Sequence[str]) -> tuple[dict[tuple[str, str, float, int], Tensor], Tensor]:
    """Train, and return (modality, kind, share, draw) → scores of the evaluated utterances, and their targets."""
    pipeline, _, test = train_job(job, corpus, quiet=True)
    train = Parts.of(corpus, job.fold, pipeline.schema).train
    judged = [with_vectors_of_others(test, others, draw) for draw in range(DRAWS)]
    whole = [infer(pipeline, one).scores[test.judged] for one in judged[: DRAWS if others else 1]]  # nothing fails, whatever the modality
    scores = {
        (modality, kind, share, draw): infer(pipeline, failed(judged[draw], train, modality, kind, share, draw)).scores[test.judged]
        if share
        else whole[draw]
        for modality in corpus.modalities
        for kind in ("missing", "noise")
        for share in SHARES
        for draw in range(DRAWS if share else len(whole))
    }
    return scores, test.target[test.judged]


def measure(data: str, seeds: int, parts: int = 0, others: Sequence[str] = ()) -> dict[str, Any]:
    """Train all methods with all seeds, and return their results in every condition."""
    corpus = load_corpus(data)
    if unknown := set(others) - set(corpus.modalities):
        raise SystemExit(
            f"--others: expected modalities of the corpus ({', '.join(corpus.modalities)}), found {', '.join(sorted(unknown))}"
        )
    committed = experiment_file("hff", corpus.name)
    experiment = from_dict("hff", read_toml(committed) if committed else {}, str(committed))
    experiment = replace(experiment, run=replace(experiment.run, data=corpus.name))
    compared = methods(experiment, corpus, () if parts else HIDDEN)
    cut, rows = divisions(corpus, experiment, parts), []
    for name, chosen in compared.items():
        found: dict[tuple[str, str, float], list[float]] = {}
        for seed in tqdm(range(seeds), desc=name):
            scores, goals = zip(
                *(outcomes(Job(experiment=chosen, seed=seed, fold=fold, name=name), corpus, others) for fold in cut), strict=True
            )
            drawn: dict[tuple[str, str, float], list[float]] = {}
            for condition in scores[0]:
                together = torch.cat([each[condition] for each in scores])
                drawn.setdefault(condition[:3], []).append(evaluate(together, torch.cat(goals), corpus.task)["weighted_f1"])
            for key, values in drawn.items():
                found.setdefault(key, []).append(float(np.mean(values)))
        rows += [
            {"method": name, "modality": modality, "kind": kind, "share": share, "weighted_f1": values}
            for (modality, kind, share), values in found.items()
        ]
    settings = {name: chosen.as_dict() for name, chosen in compared.items()}
    given = {
        "corpus": corpus.name,
        "seeds": seeds,
        "draws": DRAWS,
        "hidden": [] if parts else HIDDEN,
        "folds": parts,
        "others": list(others),
    }
    return {**given, "rows": rows, "config": settings, "environment": environment("cpu")}


def plot(result: dict[str, Any], path: Path) -> None:
    """Draw one panel per modality and kind of failure, and one line per method, with mean and standard deviation over the seeds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    rows = result["rows"]
    names = list(dict.fromkeys(row["method"] for row in rows))
    modalities = list(dict.fromkeys(row["modality"] for row in rows))
    figure, axes = plt.subplots(2, len(modalities), figsize=(3.2 * len(modalities) + 0.6, 5.6), sharex=True, sharey=True, squeeze=False)
    for i, kind in enumerate(("missing", "noise")):
        for j, modality in enumerate(modalities):
            ax = axes[i][j]
            for name in names:
                own = [row for row in rows if (row["method"], row["modality"], row["kind"]) == (name, modality, kind)]
                values = np.array([row["weighted_f1"] for row in own])
                colour = {"HFF": "C0", "BiGRU": "C1", "concatenation": "C2"}[name.split(",")[0]]
                dashed = next((style for word, style in STYLES.items() if word in name), "-")
                shares = [100 * row["share"] for row in own]
                plain = dashed == "-"
                ax.plot(
                    shares,
                    values.mean(1),
                    dashed,
                    color=colour,
                    linewidth=1.8 if plain else 0.9,
                    alpha=1 if plain else 0.7,
                    marker="o" if plain else None,
                    markersize=3,
                    label=name,
                )
                if plain and values.shape[1] > 1:
                    spread = values.std(1, ddof=1)
                    ax.fill_between(shares, values.mean(1) - spread, values.mean(1) + spread, color=colour, alpha=0.12, linewidth=0)
            ax.set_title(f"{modality} {'missing' if kind == 'missing' else 'replaced by noise'}", fontsize=10)
            ax.grid(alpha=0.3)
            if j == 0:
                ax.set_ylabel("weighted F1")
            if i == 1:
                ax.set_xlabel("% of the utterances")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=3, frameon=False, fontsize=9)
    figure.tight_layout(rect=(0, 0.035 * -(-len(names) // 3), 1, 1))
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.robustness", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", default="sample", help="corpus of vectors (default: sample)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--folds", type=int, default=0, metavar="K", help="evaluate training and development dialogues in K folds, not the test split"
    )
    parser.add_argument(
        "--others",
        nargs="+",
        default=[],
        metavar="MODALITY",
        help="with --folds: modalities that are taken from other dialogues in the evaluation",
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="default: experiments/results/CORPUS/robustness.json, or robustness-folds.json"
    )
    parser.add_argument("--png", type=Path, metavar="FILE", help="default: next to the JSON file")
    options = parser.parse_args(argv)
    if options.others and not options.folds:
        parser.error("--others: expected together with --folds, found alone; give --folds K")
    result = measure(options.data, options.seeds, options.folds, options.others)
    path = options.json or RESULTS / result["corpus"] / f"robustness{'-folds' if options.folds else ''}.json"
    write_json(path, result)
    plot(result, options.png or path.with_suffix(".png"))
    table = {}
    for row in result["rows"]:
        key = (row["modality"], row["kind"], row["method"])
        table.setdefault(key, []).append(f"{np.mean(row['weighted_f1']):.3f}")
    print(
        text_table(
            ["modality", "failure", "method", *(f"{share:.0%}" for share in SHARES)], [[*key, *values] for key, values in table.items()]
        )
    )


if __name__ == "__main__":
    main()
