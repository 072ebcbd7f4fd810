"""The rows of a leaderboard, computed from the recorded results of the trainings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from erc_graph.data.corpus import Corpus
from erc_graph.data.files.journal import Journal
from erc_graph.data.printable import one_line
from erc_graph.data.splits import judged_rows
from erc_graph.errors import CheckpointError, ErcGraphError
from erc_graph.experiments.findings import spread
from erc_graph.experiments.leaderboard.behaviour import behaviour, same
from erc_graph.experiments.leaderboard.board import Entry, Field
from erc_graph.experiments.leaderboard.board_rules import CRITERION, Rules
from erc_graph.experiments.leaderboard.inflation import chosen_on_test
from erc_graph.experiments.leaderboard.trials import ANSWERS, TRACES, TRAININGS, answers, answers_of
from erc_graph.experiments.published import printed_beside, same_name
from erc_graph.experiments.run import schema
from erc_graph.methods.own_file import find_method
from erc_graph.training.resampling import bootstrap_dialogues, class_figures, class_sums, score_figures, score_sums
from erc_graph.training.significance import Comparison, holm, paired_permutation

BASELINE = "bigru"
BOOTSTRAP = 9999  # draws


def rows_of(field: Field, rules: Rules) -> list[dict[str, Any]]:
    """Return a row for every method with a result or an error, sorted by weighted F1 on the development split, best first.

    Args:
        field: A corpus and its methods.
        rules: Rules of the leaderboard.
    """
    best = chosen_on_test(field.folder / TRACES, field.done)
    with Journal(field.folder / ANSWERS, answers_of) as said:
        found = [row for entry in field.entries if (row := _row_of_records(entry, field, said, best)) is not None]
    found.sort(key=lambda row: (not row["seeds"], -row.get("dev", {}).get(CRITERION, {"mean": 0.0})["mean"], row["method"]))
    _compare(found, field.corpus)
    for row in found:
        del row["sums"]
    return found


def _row_of_records(entry: Entry, field: Field, said: Journal, best: Mapping[str, float]) -> dict[str, Any] | None:
    """Return the row of a method; `None` if its trainings are not finished.

    Raises:
        CheckpointError: a recorded result of the method is damaged.
    """
    try:
        return _row(entry, field.corpus, said, best)
    except (AttributeError, KeyError, TypeError, ValueError) as problem:
        if isinstance(problem, ErcGraphError):
            raise
        raise CheckpointError(
            f"{field.folder / TRAININGS}: expected records of trainings, found invalid records of the method {entry.name} "
            f"({type(problem).__name__}: {one_line(problem, 100)}); delete these records to train {entry.name} again"
        ) from None


def _row(entry: Entry, corpus: Corpus, said: Journal, best: Mapping[str, float]) -> dict[str, Any] | None:
    """Return the row of a method, with `sums` for the bootstrap: seed → sums per test dialogue; `None` if trainings are missing."""
    if any(trial.key not in entry.done for trials in entry.tried() for trial in trials):
        return None
    found = [(trial, entry.done[trial.key]) for trial in entry.final() if trial.key in entry.done]
    done = [(trial, record) for trial, record in found if "error" not in record]
    if not found:
        return None
    kind = find_method(entry.method)
    row: dict[str, Any] = {
        "method": entry.name,
        "family": kind.family,
        "after": bool(kind.paper and kind.paper.after),
        "seeds": [trial.seed for trial, _ in done],
        "errors": sorted({record["error"] for _, record in found if "error" in record}),
        "committed": entry.committed,
        "setting": entry.chosen,
        "changes": dict(entry.settings[entry.chosen]),
        "tried": [
            {"changes": dict(changes), "figure": figure, **({"error": entry.failed[i]} if i in entry.failed else {})}
            for i, (changes, figure) in enumerate(zip(entry.settings, entry.figures, strict=False))
        ],
        "published": published(entry.name, corpus),
        "sums": {},
    }
    if not done:
        return row
    for part in ("test", "turns", "groups"):
        if part in (first := done[0][1]):
            row[part] = {name: spread([record[part][name] for _, record in done]) for name in first[part]}
    row["dev"] = {name: spread([record["dev"][name] for _, record in done]) for name in done[0][1]["dev"]}
    row["cost"] = {
        "parameters": done[0][1]["parameters"],
        **{name: spread([record[name] for _, record in done]) for name in ("cpu_seconds_per_epoch", "peak_bytes")},
        "epochs": [record["epochs"] for _, record in done],
    }
    if all(trial.key in best for trial, _ in done):
        row["chosen_on_test"] = spread([best[trial.key] for trial, _ in done])
    values, reads = done[0][0].experiment.as_dict(), schema(done[0][0].experiment, corpus)
    row["settings"] = {name: values[name] for name in ("pipeline", "training", "inputs", "prior")}
    row["reads"] = {"widths": dict(reads.widths), "sequences": {name: list(item) for name, item in reads.sequences.items()}}
    row["behaviour"] = done[0][1]["behaviour"]
    now = behaviour(entry.method, values["pipeline"], reads)
    row["changed_since"] = any(not same(now, record["behaviour"]) for _, record in done)
    rows = judged_rows(corpus, entry.official.test, entry.official.test_speakers).nonzero().flatten()
    kept = {trial.seed: record for trial, _ in done if (record := said.get(trial.key))}
    row["sums"] = {seed: _sums(rows, answers(record, corpus.task, len(rows)), corpus) for seed, record in kept.items()}
    return row


def _sums(rows: Tensor, scores: Tensor, corpus: Corpus) -> np.ndarray[Any, Any]:
    """Return the sums of each test dialogue, from which the bootstrap computes metrics."""
    unit, target = corpus.dialogue_of[rows].numpy(), corpus.target[rows].numpy()
    if corpus.task.kind == "classification":
        return class_sums(unit, target, scores.argmax(-1).numpy(), len(corpus.task.labels))
    return score_sums(unit, target.astype(np.float64), scores[:, 0].double().numpy())


def _compare(rows: Sequence[dict[str, Any]], corpus: Corpus) -> None:
    """Compare every row with the BiGRU and with the best row, by paired tests over seeds and dialogues, with Holm's correction."""
    figures = class_figures(len(corpus.task.labels)) if corpus.task.kind == "classification" else score_figures()
    done = [row for row in rows if row["seeds"]]
    rivals = {"bigru": next((row for row in done if row["method"] == BASELINE), None), "best": done[0] if done else None}
    for rival, other in rivals.items():
        tests: dict[str, dict[str, Comparison]] = {"seeds": {}, "dialogues": {}}
        for row in done if other else ():
            assert other is not None
            shared = [seed for seed in row["seeds"] if seed in other["seeds"]]
            if row is other or not shared:
                continue
            own, its = ([r["test"][CRITERION]["values"][r["seeds"].index(seed)] for seed in shared] for r in (row, other))
            if len(shared) > 1:
                tests["seeds"][row["method"]] = paired_permutation(own, its)
            both = [seed for seed in shared if seed in row["sums"] and seed in other["sums"]]
            if both and len(row["sums"][both[0]]) > 1:
                # the seeds' answers are added up, so that the sums of a dialogue are those of the mean seed
                first, second = (np.sum([r["sums"][seed] for seed in both], 0) for r in (row, other))
                tests["dialogues"][row["method"]] = bootstrap_dialogues(first, second, figures[CRITERION], resamples=BOOTSTRAP)
            row.setdefault("against", {})[rival] = {"method": other["method"], "difference": float(np.mean(np.subtract(own, its)))}
        for question, found in tests.items():
            corrected = holm({name: one.p_value for name, one in found.items()}) if found else {}
            for row in done:
                if (one := found.get(row["method"])) is not None:
                    interval = {"low": one.low, "high": one.high} if question == "dialogues" else {}
                    row["against"][rival][question] = {"p": one.p_value, "p_holm": corrected[row["method"]], "pairs": one.pairs, **interval}


def published(method: str, corpus: Corpus) -> dict[str, Any] | None:
    """Return the best published weighted F1 of a method on a corpus; `None` if no result is published.

    If the method's own paper has no result on the corpus, results in other papers are used.
    """
    for table in printed_beside(method, corpus.name, corpus.task.name):
        lines = [row for row in table.rows if row.weighted_f1 is not None and same_name(row.method, method)]
        if lines:
            best = max(lines, key=lambda row: row.weighted_f1 or 0.0)
            return {"weighted_f1": best.weighted_f1, "line": best.name, "source": table.source, "epoch_on_test": best.epoch_on_test}
    return None
