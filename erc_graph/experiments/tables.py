"""Run the rows of one of the paper's tables, and write measured beside published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from erc_graph.data.corpus import Corpus
from erc_graph.data.storage import atomic_write, write_json
from erc_graph.experiments.ablation import Table, folder_name, row_experiment, table_file
from erc_graph.experiments.config import Experiment
from erc_graph.experiments.display import table_rows
from erc_graph.experiments.environment import environment
from erc_graph.experiments.result import spread
from erc_graph.experiments.run import run_experiment


def run_table(experiment: Experiment, corpus: Corpus, folder: Path, table: Table, *, resume: bool = False) -> dict[str, Any]:
    """Train and judge every row with the experiment's seeds.

    Writes `table-N.json`, `table-N.md` and, where the rows share their test utterances, `table-N-tsne.png` with one t-SNE per row (Fig. 4).

    Returns:
        The content of the JSON file.
    """
    from erc_graph.data.load import corpus_sha256
    from erc_graph.report.projection import plot_projections
    from erc_graph.report.tables import markdown_table

    rows: list[dict[str, Any]] = []
    projections = []
    for row in table.rows:
        entry: dict[str, Any] = {"name": row.name, "marks": list(row.marks), "changes": dict(row.changes)}
        entry["published"] = dict(row.published.get(corpus.name, {}))
        changed = row_experiment(experiment, row, corpus.modalities)
        if isinstance(changed, str):
            entry["note"] = changed
        else:
            outcome = run_experiment(changed, corpus, folder / folder_name(row), resume=resume, name=f"row {row.name}")
            entry["metrics"] = {name: spread(outcome.values(name)) for name in outcome.seeds[0].test}
            entry["dev"] = {name: spread(outcome.values(name, "dev")) for name in outcome.seeds[0].dev}
            entry["parameters"] = outcome.parameters
            entry["seconds_per_epoch"] = outcome.seconds_per_epoch
            first = outcome.seeds[0]
            if first.states is not None and corpus.task.kind == "classification":
                projections.append((f"row {row.name}", first.states.numpy(), corpus.target[first.rows].numpy()))
        rows.append(entry)
    result = {
        "method": experiment.method,
        "number": table.number,
        "title": table.title,
        "columns": list(table.columns),
        "rows": rows,
        "dataset": corpus.name,
        "modalities": list(experiment.run.modalities or corpus.modalities),
        "protocol": experiment.run.protocol,
        "seeds": list(range(experiment.run.seeds)),
        "environment": environment(experiment.run.device),
        "config": experiment.as_dict(),
        "data_sha256": corpus_sha256(corpus),
    }
    if projections:
        plot_projections(projections, list(corpus.task.labels), folder / f"table-{table.number}-tsne.png")
    with atomic_write(folder / f"table-{table.number}.md") as temporary:
        temporary.write_text(markdown_table(*table_rows(result)) + "\n", encoding="utf-8")
    write_json(table_file(folder, table.number), result)
    return result
