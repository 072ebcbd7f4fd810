"""The option `--dry-run`: print the trainings, settings and output folders of a command, without training or writing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from erc_graph.data.corpus import Corpus
from erc_graph.data.printable import count
from erc_graph.data.splits import folds
from erc_graph.experiments.ablation import Table, find_table
from erc_graph.experiments.baseline import baseline_file, baseline_plans
from erc_graph.experiments.checks import check
from erc_graph.experiments.experiment import Experiment, settings_name
from erc_graph.experiments.hyperparameters import check_search
from erc_graph.experiments.jobs import Plan
from erc_graph.experiments.published import printed_beside
from erc_graph.experiments.run import build
from erc_graph.experiments.session import search_folder
from erc_graph.experiments.tables import row_plans


def dry_run(
    experiment: Experiment, corpus: Corpus, folder: Path, settings: Sequence[str], *, table: int | None = None, trials: int = 0
) -> int:
    """Print the planned trainings with their settings and output folders, and return the exit code.

    Args:
        experiment: The experiment.
        corpus: The corpus.
        folder: Folder of the results.
        settings: Names of the settings files that were read.
        table: Number of the requested ablation table; default: no table.
        trials: Number of settings in the hyperparameter search; 0: no search.

    Raises:
        ErcGraphError: the experiment cannot run.
    """
    chosen = None if table is None else find_table(experiment.method, table)  # an unknown one is refused first
    check(experiment, corpus)
    network, run = build(experiment, corpus, 0), experiment.run
    print(f"method      {experiment.method}, {sum(p.numel() for p in network.parameters()):,} parameters")
    print(f"settings    {', '.join(settings) or 'defaults and options'}")
    print(f"modalities  {', '.join(network.schema.modalities)}")
    print(f"stages      {', '.join(stage.name for stage in network.stages())}")
    print(f"protocol    {run.protocol}, epoch chosen on: {experiment.training.selection}")
    for fold in folds(corpus, run.protocol):
        print(f"  {fold.name:<16} {len(fold.train)} / {len(fold.dev)} / {len(fold.test)} dialogues for train / dev / test")
    print(f"seeds       {run.seeds}" + (f", {run.members} networks each" if run.members > 1 else ""))
    if trials:
        check_search(experiment, corpus)
        print(
            f"search      {count(trials, 'training')} with settings of [search], in {search_folder(folder)}; the best setting is used below"
        )
    for line in _table_lines(experiment, corpus, folder, chosen) if chosen else _main_lines(experiment, corpus, folder, table):
        print(line)
    return 0


def _main_lines(experiment: Experiment, corpus: Corpus, folder: Path, table: int | None) -> Iterator[str]:
    """Yield the lines about the trainings of the method and its baseline."""
    if table is not None:
        yield f"table       {table}: the main result, trained with the settings above"
    plans = [Plan(experiment=experiment, folder=folder), *baseline_plans(experiment, corpus, folder)]
    yield _total(plans, corpus)
    yield from (_trainings(plan, corpus) for plan in plans)
    for printed in printed_beside(experiment.method, corpus.name, corpus.task.name):
        yield f"published   {printed.source}"
    yield f"output      {folder}: config.json, result.json, predictions.csv, pictures"


def _table_lines(experiment: Experiment, corpus: Corpus, folder: Path, table: Table) -> Iterator[str]:
    """Yield the lines about the trainings of all rows of an ablation table, and of the baseline."""
    rows, plain = row_plans(experiment, corpus, folder, table), baseline_plans(experiment, corpus, folder)
    yield f"table       {table.number}: {table.title} ({count(len(table.rows), 'row')} of experiments/tables/{experiment.method}.toml)"
    yield _total([*(plan for plan in rows if isinstance(plan, Plan)), *plain], corpus)
    for row, plan in zip(table.rows, rows, strict=True):
        changes = ", ".join(f"{key} = {value!r}" for key, value in row.changes.items()) or "the full method"
        yield f"  row {row.name:<12} {plan}" if isinstance(plan, str) else f"{_trainings(plan, corpus)}: {changes}"
    yield from (_trainings(plan, corpus) for plan in plain)
    yield f"output      {folder}: config.json, table-{table.number}.json, table-{table.number}.md"


def _total(plans: Sequence[Plan], corpus: Corpus) -> str:
    return f"runs        {len(plans)}, in all {count(sum(len(plan.jobs(corpus)) for plan in plans), 'training')}"


def _trainings(plan: Plan, corpus: Corpus) -> str:
    """Return a line about all trainings of an experiment, such as `BiGRU 5 trainings in runs/x/bigru, seed-0 to seed-4`."""
    seeds = plan.experiment.run.seeds
    where = f"{plan.folder}, seed-0" + (f" to seed-{seeds - 1}" if seeds > 1 else "")
    file = f", settings {settings_name(baseline_file(plan.experiment))}" if plan.name == "BiGRU" else ""
    return f"  {plan.title:<16} {count(len(plan.jobs(corpus)), 'training')} in {where}{file}"
