"""Terminal output of a finished experiment: a table of measured results and baselines, and tables of published results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from erc_graph.data.printable import count
from erc_graph.experiments.published import PublishedTable
from erc_graph.report.text_tables import mean_std, text_table
from erc_graph.training.significance import few_seeds

METRICS = {
    "classification": (("accuracy", "accuracy"), ("weighted_f1", "wF1"), ("macro_f1", "macro F1"), ("calibration_error", "ECE")),
    "score": (("acc2", "ACC-2"), ("f1", "F1"), ("acc7", "ACC-7"), ("mae", "MAE")),
}
NONZERO = (("acc2_nonzero", "ACC-2 ≠0"), ("f1_nonzero", "F1 ≠0"))  # negative against positive, as most papers on MOSEI count


def measured(values: Mapping[str, Any]) -> str:
    """Return a result as text with mean and standard deviation over seeds, such as `0.651 ± 0.004`.

    With one seed, the text is only the value of this seed.
    """
    return mean_std(values["values"])


def print_result(result: Mapping[str, Any]) -> None:
    """Print the results of a run and its baselines as a table."""
    kind = "classification" if result["labels"] else "score"
    columns = METRICS[kind] if kind == "classification" else (*METRICS[kind], *NONZERO)
    rows = [["majority", *(measured(result["baselines"]["majority"][key]) for key, _ in columns)]]
    if "bigru" in result["baselines"]:
        rows.append(["BiGRU", *(measured(result["baselines"]["bigru"][key]) for key, _ in columns)])
    rows.append([result["method"], *(measured(result["metrics"]["test"][key]) for key, _ in columns)])
    print(f"\n{result['dataset']}, task {result['task']}, {', '.join(result['modalities'])}; {_seeds(result)}, test split")
    print(f"protocol {result['protocol']}; epoch: {SELECTION[result['selection']]}")
    print(text_table(["measured", *(title for _, title in columns)], rows))
    if "bayes_limit" in result:
        ratio, of = result["accuracy_over_bayes_limit"], result.get("bayes_limit_of", "conversations")
        print(f"Bayes limit  {result['bayes_limit']:.3f} accuracy; the method reaches {ratio:.3f} of this limit")
        if result["dataset"] == "sample-raw":
            print(f"             (upper bound, computed from the hidden vectors of words, audio and video of {of})")
        else:
            print(f"             (on average, no classifier of {of} of this data exceeds the limit)")
    if "p_value_against_bigru" in result["baselines"]:
        print(f"wF1 against BiGRU: p = {result['baselines']['p_value_against_bigru']['weighted_f1']:.3f} (paired permutation over seeds)")
    if "bigru" in result["baselines"]:
        print("the BiGRU has its own settings (experiments/bigru), equal for all corpora and not searched")
    if warning := few_seeds(len(result["seeds"])):
        print(warning)


def print_published(tables: Sequence[PublishedTable]) -> None:
    """Print each table of published results on the corpus of a run."""
    for table in tables:
        print(f"\npublished, on other features: {table.source}")
        shown = [(key, title) for key, title in PRINTED if any(key in row.figures for row in table.rows)]
        rows = [[row.name, *(_printed(row.figures.get(key)) for key, _ in shown), row.epoch_on_test] for row in table.rows]
        print(text_table(["published", *(title for _, title in shown), "epoch chosen on test"], rows))


PRINTED = (("accuracy", "accuracy"), ("unweighted_accuracy", "UA"), ("acc7", "ACC-7"), ("weighted_f1", "wF1"), *NONZERO)
SELECTION = {"dev": "best on the development split", "last": "the last of a fixed number of epochs"}


def _seeds(result: Mapping[str, Any]) -> str:
    members = result.get("members", 1)
    return count(len(result["seeds"]), "seed") + (f" of {members} networks each" if members > 1 else "")


def _printed(value: Any) -> str:
    return "–" if value is None else f"{value:.3f}"


def table_rows(table: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of a measured ablation table; measured and published results are in separate columns."""
    keys = {"weighted_f1": "wF1", "accuracy": "accuracy", "unweighted_accuracy": "UA", "acc7": "ACC-7", **dict(NONZERO)}
    usual, printed = ("weighted_f1", "accuracy"), [row["published"] for row in table["rows"]]
    shown = [key for key in keys if key in usual or any(key in row for row in printed)]
    header = ["", *table["columns"], *(keys[key] for key in shown), *(f"paper {keys[key]}" for key in shown)]
    rows = []
    for name, metrics in table["baselines"].items():
        title = "BiGRU" if name == "bigru" else name
        rows.append([title, *("" for _ in table["columns"]), *(measured(metrics[key]) for key in shown), *("" for _ in shown)])
    for row in table["rows"]:
        metrics = row.get("metrics")
        figures = [measured(metrics[key]) for key in shown] if metrics else [row["note"], *("" for _ in shown[1:])]
        rows.append([row["name"], *row["marks"], *figures, *(_printed(row["published"].get(key)) for key in shown)])
    return header, rows


def print_table(table: Mapping[str, Any]) -> None:
    """Print an ablation table."""
    what = f"{table['dataset']}, {', '.join(table['modalities'])}; {_seeds(table)}"
    print(f"\nTable {table['number']}: {table['title']} ({what})")
    print(text_table(*table_rows(table)))
    print("columns `paper`: results that the paper reports, on its own features; other columns: measured on your features")
