"""Run the rows of one of the paper's tables, and write measured beside published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tqdm import tqdm

from erc_graph.data.corpus import Corpus
from erc_graph.data.storage import atomic_write, write_json
from erc_graph.data.tasks import DEFAULT_TASK
from erc_graph.errors import ConfigError
from erc_graph.experiments.ablation import Table, folder_name, row_experiment
from erc_graph.experiments.config import Experiment
from erc_graph.experiments.display import table_rows
from erc_graph.experiments.environment import environment
from erc_graph.experiments.result import spread
from erc_graph.experiments.run import baseline_of, majority_metrics, run_experiment


def run_table(
    experiment: Experiment, corpus: Corpus, folder: Path, table: Table, *, resume: bool = False, write: bool = True
) -> dict[str, Any]:
    """Train and judge every row with the experiment's seeds.

    Writes `table-N.json`, `table-N.md` and, where the rows share their test utterances, `table-N-tsne.png` with one t-SNE per row (Fig. 4).

    Returns:
        The content of the JSON file.
    """
    from erc_graph.data.load import corpus_sha256
    from erc_graph.report.projection import plot_projections
    from erc_graph.report.tables import markdown_table

    check_distinct(experiment, corpus, table)
    baselines: dict[str, Any] = {}
    device = "cpu"
    rows: list[dict[str, Any]] = []
    projections = []
    for row in tqdm(table.rows, desc=f"table {table.number}: rows", disable=None):
        entry: dict[str, Any] = {"name": row.name, "marks": list(row.marks), "changes": dict(row.changes)}
        entry["published"] = dict(row.published.get(corpus.name, {})) if corpus.task.name == DEFAULT_TASK.get(corpus.name) else {}
        changed = row_experiment(experiment, row, corpus.modalities)
        if isinstance(changed, str):
            entry["note"] = changed
        else:
            outcome = run_experiment(changed, corpus, folder / folder_name(row), resume=resume, name=f"row {row.name}")
            entry["metrics"] = {name: spread(outcome.values(name)) for name in outcome.seeds[0].test}
            entry["dev"] = {name: spread(outcome.values(name, "dev")) for name in outcome.seeds[0].dev}
            entry["parameters"] = outcome.seeds[0].parameters
            entry["seconds_per_epoch"] = outcome.seconds_per_epoch
            first, device = outcome.seeds[0], outcome.seeds[0].device
            if not baselines:
                most = majority_metrics(changed, corpus, first)
                baselines["majority"] = {name: spread([value]) for name, value in most.items()}
            if first.states is not None and corpus.task.kind == "classification":
                projections.append((f"row {row.name}", first.states.numpy(), corpus.target[first.rows].numpy()))
        rows.append(entry)
    if experiment.run.baseline:
        plain = run_experiment(baseline_of(experiment, corpus), corpus, folder / "bigru", resume=resume, name="BiGRU")
        baselines["bigru"] = {name: spread(plain.values(name)) for name in plain.seeds[0].test}
    result = {
        "method": experiment.method,
        "number": table.number,
        "title": table.title,
        "columns": list(table.columns),
        "rows": rows,
        "baselines": baselines,
        "dataset": corpus.name,
        "modalities": list(experiment.run.modalities or corpus.modalities),
        "protocol": experiment.run.protocol,
        "seeds": list(range(experiment.run.seeds)),
        "environment": environment(device),
        "config": experiment.as_dict(),
        "data_sha256": corpus_sha256(corpus),
    }
    if not write:
        return result
    if projections:
        plot_projections(projections, list(corpus.task.labels), folder / f"table-{table.number}-tsne.png")
    with atomic_write(folder / f"table-{table.number}.md") as temporary:
        temporary.write_text(markdown_table(*table_rows(result)) + "\n", encoding="utf-8")
    write_json(folder / f"table-{table.number}.json", result)
    return result


def check_distinct(experiment: Experiment, corpus: Corpus, table: Table) -> None:
    """Refuse a table in which two rows would be the same network.

    Raises:
        ConfigError: names the rows.
    """
    seen: dict[str, str] = {}
    for row in table.rows:
        changed = row_experiment(experiment, row, corpus.modalities)
        if isinstance(changed, str):
            continue
        network = repr((changed.pipeline, changed.run.modalities))
        if network in seen:
            raise ConfigError(
                f"table {table.number}: rows {seen[network]} and {row.name} are the same network under these settings; "
                "switch on in the configuration what they differ in (for Table 2 a density above 0)"
            )
        seen[network] = row.name
