"""Training of the rows of an ablation table, and output of the measured results next to the published results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from erc_graph.data.corpus import Corpus
from erc_graph.data.files.storage import atomic_write, write_json
from erc_graph.data.tasks import DEFAULT_TASK
from erc_graph.errors import ConfigError
from erc_graph.experiments.ablation import Table, folder_name, row_experiment
from erc_graph.experiments.baseline import baseline_plans
from erc_graph.experiments.display import table_rows
from erc_graph.experiments.environment import environment
from erc_graph.experiments.experiment import Experiment, Launch
from erc_graph.experiments.findings import baselines, spread
from erc_graph.experiments.jobs import Plan
from erc_graph.experiments.launch import run_all
from erc_graph.methods.own_file import short_name


def run_table(
    experiment: Experiment,
    corpus: Corpus,
    folder: Path,
    table: Table,
    *,
    launch: Launch | None = None,
    resume: bool = False,
    write: bool = True,
) -> dict[str, Any]:
    """Train and evaluate every row of an ablation table with the seeds of `experiment`; write `table-N.json` and `table-N.md`.

    For a classification task with one fold, also write `table-N-tsne.png`, with one t-SNE plot per row.

    Returns:
        The content of the JSON file.
    """
    from erc_graph.data.digest import corpus_sha256
    from erc_graph.report.projection import plot_projections
    from erc_graph.report.text_tables import markdown_table

    planned = row_plans(experiment, corpus, folder, table)
    plans = [plan for plan in planned if isinstance(plan, Plan)]
    plain = baseline_plans(experiment, corpus, folder)
    outcomes = run_all([*plans, *plain], corpus, folder, launch=launch, resume=resume)
    judged = iter(outcomes)
    rows: list[dict[str, Any]] = []
    projections = []
    for row, plan in zip(table.rows, planned, strict=True):
        entry: dict[str, Any] = {"name": row.name, "marks": list(row.marks), "changes": dict(row.changes)}
        entry["published"] = dict(row.published.get(corpus.name, {})) if corpus.task.name == DEFAULT_TASK.get(corpus.name) else {}
        if isinstance(plan, str):
            entry["note"] = plan
        else:
            outcome = next(judged)
            first = outcome.seeds[0]
            entry["metrics"] = {name: spread(outcome.values(name)) for name in first.test}
            entry["dev"] = {name: spread(outcome.values(name, "dev")) for name in first.dev}
            entry["parameters"] = first.parameters
            entry["seconds_per_epoch"] = outcome.seconds_per_epoch
            if first.states is not None and corpus.task.kind == "classification":
                projections.append((f"row {row.name}", first.states.numpy(), corpus.target[first.rows].numpy()))
        rows.append(entry)
    result = {
        "method": short_name(experiment.method),
        "number": table.number,
        "title": table.title,
        "columns": list(table.columns),
        "rows": rows,
        "baselines": baselines(outcomes[0], outcomes[-1] if plain else None) if plans else {},
        "dataset": corpus.name,
        "modalities": list(experiment.run.modalities or corpus.modalities),
        "protocol": experiment.run.protocol,
        "seeds": list(range(experiment.run.seeds)),
        "members": experiment.run.members,
        "environment": environment(outcomes[-1].seeds[0].device if outcomes else "cpu"),
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


def row_plans(experiment: Experiment, corpus: Corpus, folder: Path, table: Table) -> list[Plan | str]:
    """Return for each table row its experiment with seeds and folds, or a sentence with the modalities that are missing in the corpus.

    Raises:
        ConfigError: two rows have the same settings.
    """
    plans: list[Plan | str] = []
    seen: dict[str, str] = {}
    for row in table.rows:
        changed = row_experiment(experiment, row, corpus.modalities)
        if isinstance(changed, str):
            plans.append(changed)
            continue
        network = repr((changed.pipeline, changed.inputs, changed.prior, changed.run.modalities, changed.run.protocol))
        if network in seen:
            raise ConfigError(
                f"table {table.number}: expected a different network for each row, found the same network for the rows "
                f"{seen[network]} and {row.name}; enable the module in which these rows differ (for Table 2: set a "
                "density above 0)"
            )
        seen[network] = row.name
        plans.append(Plan(experiment=changed, folder=folder / folder_name(row), name=f"row {row.name}"))
    return plans
