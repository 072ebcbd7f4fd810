"""Start or continue a run in its folder, and write the results."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from erc_graph.errors import ConfigError

if TYPE_CHECKING:
    from erc_graph.data.corpus import Corpus
    from erc_graph.experiments.ablation import Table
    from erc_graph.experiments.experiment import Experiment, Launch


SEARCH = ("search", "tune")  # folder of a hyperparameter search; the second is the name in earlier versions


def main_process() -> bool:
    """Return whether this process writes files and prints results.

    The result is true for a single process, and for the first process of `accelerate launch`.
    """
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Lock the folder of a run while the `with` block runs; after Ctrl-C, the message says how to continue the run."""
    from erc_graph.experiments.lock import alone

    with alone(folder) if main_process() else nullcontext():
        try:
            yield
        except KeyboardInterrupt:
            raise KeyboardInterrupt(_way_on(folder)) from None


def check_folder(folder: Path) -> None:
    """Check that a new run can start in a folder, so that no run is overwritten.

    A folder that contains only `config.json` can be used, because nothing was trained in it.
    """
    names = _names(folder)
    if names == ["config.json"]:
        return
    if "config.json" in names:
        raise ConfigError(f"{folder}: already contains a run; continue this run with --resume {folder}, or choose another --out")
    if [name for name in names if name not in SEARCH]:
        raise ConfigError(f"{folder}: expected an empty or new folder, found {names[0]!r} in it; choose another --out")


def search_folder(folder: Path) -> Path:
    """Return the folder of a hyperparameter search, which is `search`, or an existing folder `tune` of an earlier package version."""
    now, before = (folder / name for name in SEARCH)
    return before if before.exists() else now


def _names(folder: Path) -> list[str]:
    """Return the names of the files in the folder of a run, without the lock file."""
    from erc_graph.data.files.storage import tidy
    from erc_graph.experiments.lock import LOCK

    tidy(folder)  # of a run that was killed
    return sorted(path.name for path in folder.iterdir() if path.name != LOCK)


def _way_on(folder: Path) -> str:
    """Return advice on how to continue after Ctrl-C."""
    if (folder / "config.json").exists():
        return f"the last complete epoch is kept, --resume {folder} continues from it"
    return "repeat the command to continue after the finished trials" if search_folder(folder).exists() else ""


def start(experiment: Experiment, corpus: Corpus, folder: Path, launch: Launch, **command: Any) -> None:
    """Check that the experiment can run, and write its settings to `config.json`, which `--resume` reads."""
    from erc_graph.data.digest import corpus_sha256
    from erc_graph.data.files.storage import write_json
    from erc_graph.experiments.checks import check
    from erc_graph.methods.own_file import own_sha256

    check(experiment, corpus)
    values = {"launch": vars(launch), **experiment.as_dict()}
    if Path(experiment.run.data).exists():
        values["data"] = str(Path(experiment.run.data).resolve())  # so that the run can be continued from any folder
    if main_process():
        write_json(
            folder / "config.json",
            {
                **command,
                "method": experiment.method,
                "data_sha256": corpus_sha256(corpus),
                "method_sha256": own_sha256(experiment.method),
                **values,
            },
        )


def run_session(
    experiment: Experiment, corpus: Corpus, folder: Path, launch: Launch, *, table: int | None = None, resume: bool = False
) -> int:
    """Train and evaluate an experiment, or the rows of an ablation table, and return the exit code.

    Args:
        experiment: The experiment.
        corpus: The corpus.
        folder: Folder of all results, which this process has locked.
        launch: Options of the execution.
        table: Number of an ablation table of the paper; default: no table.
        resume: Continue the run in the folder.

    Raises:
        ErcGraphError: the experiment cannot run; nothing is written then.
    """
    from erc_graph.experiments.ablation import find_table

    chosen = None if table is None else find_table(experiment.method, table)
    if not resume:
        command: dict[str, Any] = {"command": "run"} if chosen is None else {"command": "table", "table": chosen.number}
        start(experiment, corpus, folder, launch, **command)
    if chosen is None:
        _run(experiment, corpus, folder, launch, resume=resume)
    else:
        _table(experiment, corpus, folder, chosen, launch, resume=resume)
    if main_process():
        print(f"\nwritten to {folder}: {', '.join(_names(folder))}")
    return 0


def _run(experiment: Experiment, corpus: Corpus, folder: Path, launch: Launch, *, resume: bool) -> None:
    from erc_graph.experiments.baseline import baseline_plans
    from erc_graph.experiments.display import print_published, print_result
    from erc_graph.experiments.findings import summary
    from erc_graph.experiments.jobs import Plan
    from erc_graph.experiments.launch import run_all
    from erc_graph.experiments.published import printed_beside
    from erc_graph.experiments.result import write_result
    from erc_graph.experiments.run_pictures import write_pictures

    plans = [Plan(experiment=experiment, folder=folder), *baseline_plans(experiment, corpus, folder)]
    outcome, *others = run_all(plans, corpus, folder, launch=launch, resume=resume)
    if not main_process():
        return
    baseline = others[0] if others else None
    result = summary(outcome, baseline)
    write_result(folder, result, corpus, outcome.seeds[0], baseline.seeds[0] if baseline else None)
    write_pictures(folder, outcome)  # last: no picture can cost a result
    print_result(result)
    print_published(printed_beside(experiment.method, corpus.name, corpus.task.name))


def _table(experiment: Experiment, corpus: Corpus, folder: Path, table: Table, launch: Launch, *, resume: bool) -> None:
    from erc_graph.experiments.display import print_table
    from erc_graph.experiments.tables import run_table

    result = run_table(experiment, corpus, folder, table, launch=launch, resume=resume, write=main_process())
    if main_process():
        print_table(result)
