"""The report of a finished run, made from the folder of the run, its corpus and its model.

Results come from the files of the run. Speakers and texts come from the corpus, and graphs from the model of the first seed. If the corpus
or the model is not available, the report has a note about this and shows all other results.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from erc_graph.errors import CheckpointError
from erc_graph.experiments.display import METRICS, SELECTION
from erc_graph.experiments.explored import Explored, Scope, explore, predicted_only
from erc_graph.experiments.result import PREDICTIONS, RESULT
from erc_graph.experiments.settings import FILE, checked, in_words, named_again, read_object
from erc_graph.inference.starter import STARTER
from erc_graph.methods.own_file import find_method
from erc_graph.report.predictions import Predictions, read_predictions

if TYPE_CHECKING:
    from erc_graph.report.page import Contents
    from erc_graph.training.history import History

REPORT = "report.html"


@dataclass(frozen=True)
class Made:
    """A written report.

    Attributes:
        path: File of the report.
        headline: Main results, as values that JSON can store.
        notes: Notes on data that could not be shown in the report.
        licensed: Whether the report contains utterance texts of a corpus that is not a generated sample corpus.
    """

    path: Path
    headline: dict[str, Any]
    notes: tuple[str, ...]
    licensed: bool


def make_report(folder: str | Path, *, text: bool = True, scope: Scope = "test", method: str | None = None) -> Made:
    """Write `report.html` into the folder of a finished run.

    Args:
        folder: Folder of the run, as given to `erc-graph experiment METHOD --out`.
        text: Whether the report contains the text of the utterances.
        scope: Conversations that the report shows: `test`, the evaluated conversations; or `all`, the whole corpus.
        method: File and class of a user's own method, such as `my_method.py:Own`.

    Raises:
        ConfigError: the run has a user's own method, whose file was not given or cannot be imported.
        CheckpointError: the folder has no finished run, or its files are damaged.
        StorageError: the report cannot be written.
    """
    from erc_graph.report.page import write_page

    folder = Path(folder)
    result = read_result(folder)
    if own := named_again(folder, method):
        find_method(own)  # a file that cannot be imported is no missing model
    found = read_predictions(folder / PREDICTIONS, result["labels"])
    notes: list[str] = []
    explored = explore(folder, result["seeds"][0], found, scope, notes, method)
    history = _history(folder, result["seeds"][0], notes)
    conversations = explored.conversations or predicted_only(found)
    contents = _contents(folder, result, found, history, replace(explored, conversations=conversations), notes, text)
    path = write_page(folder / REPORT, contents)
    licensed = text and not explored.generated and any(any(c.texts) for c in conversations)
    return Made(path, _headline(path, contents), tuple(notes), licensed)


# -- files of the run -----------------------------------------------------------------------


def read_result(folder: Path) -> dict[str, Any]:
    """Return the content of a run's `result.json`.

    Raises:
        CheckpointError: the file is missing, damaged, or not the result of a run.
    """
    from erc_graph.experiments.result_form import ReportForm

    path = folder / RESULT
    try:
        result = {"members": 1, **read_object(path)}
        checked(ReportForm, result)
        shown = {**result["metrics"]["test"], **{f"baseline {name}": value for name, value in _baselines(result)}}
        wrong = [name for name, value in shown.items() if name != "loss" and not all(isinstance(v, (int, float)) for v in value["values"])]
        wrong += [name for name, _ in _columns(result) if name not in result["metrics"]["test"]]
        if wrong:
            raise ValueError(f"no {wrong[0]}")
    except CheckpointError:
        raise
    except (FileNotFoundError, NotADirectoryError):
        advice = "finish it with --resume" if (folder / FILE).exists() else "give the folder of --out of the experiment"
        if folder.is_dir() and any(folder.glob("table-*.json")):
            advice = "an ablation table has no report"
        elif (page := folder / "leaderboard.html").exists():
            advice = f"the page of a leaderboard is {page}"
        elif folder.name == STARTER or (folder / "model.safetensors").exists():
            advice = "a report needs a finished experiment; for the predictions of a model, use `erc-graph predict --html`"
        raise CheckpointError(f"{path}: expected the result of a finished run, found no such file; {advice}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path}: expected the result of a run, found an invalid file ({in_words(error)}); continue the run with --resume "
            "to write the file again"
        ) from None
    return result


def _baselines(result: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the metrics of all baselines, as pairs of a metric's name and its values over seeds."""
    known = [result["baselines"].get(name, {}) for name in ("majority", "bigru")]
    return [(name, value) for values in known for name, value in values.items() if isinstance(value, dict) and name != "loss"]


def _history(folder: Path, seed: int, notes: list[str]) -> History | None:
    """Return the training history of a seed on its first fold; `None` if the checkpoint cannot be read."""
    from erc_graph.training.checkpoint import LAST, State, refused
    from erc_graph.training.history import History

    place = folder / f"seed-{seed}"
    files = [place / LAST, *sorted(place.glob(f"*/{LAST}"))]
    path = next((file for file in files if file.is_file()), files[0])
    try:
        with refused(path):
            return History.from_dict(State.load(path).history)
    except CheckpointError as error:
        notes.append(f"The training curves could not be drawn: {error}.")
        return None


# -- words and figures ----------------------------------------------------------------------


def _contents(
    folder: Path,
    result: Mapping[str, Any],
    found: Predictions,
    history: History | None,
    explored: Explored,
    notes: Iterable[str],
    text: bool,
) -> Contents:
    from erc_graph.report.page import Contents

    seeds, members = len(result["seeds"]), result["members"]
    protocol = (
        f"Protocol {result['protocol']}; epoch: {SELECTION.get(result['selection'], result['selection'])}; "
        f"{seeds} seed{'s, mean ± standard deviation' if seeds > 1 else ', so no spread'}"
        f"{f', {members} networks each, whose predictions are averaged' if members > 1 else ''}; evaluated on {len(found):,} test "
        f"utterances in {len(set(found.dialogue)):,} conversations."
    )
    return Contents(
        result=result,
        columns=_columns(result),
        protocol=protocol,
        predictions=found,
        conversations=explored.conversations,
        streams=explored.streams,
        history=history,
        states=explored.states,
        pictures={"curves": folder / "curves.png", "projection": folder / "tsne.png"},
        notes=tuple(notes),
        text=text,
    )


def _columns(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return name and title of the main metrics of a run, with F1 first."""
    columns = METRICS["classification" if result["labels"] else "score"]
    return sorted(columns, key=lambda column: column[0] not in ("weighted_f1", "f1"))


def _headline(path: Path, contents: Contents) -> dict[str, Any]:
    result = contents.result
    keep = ("method", "dataset", "task", "modalities", "protocol", "selection", "seeds")
    return {
        "report": str(path),
        "bytes": path.stat().st_size,
        **{key: result[key] for key in keep},
        "metrics": {key: result["metrics"]["test"][key] for key, _ in contents.columns},
        "baselines": {
            name: {key: values[key]["mean"] for key, _ in contents.columns if key in values}
            for name, values in result.get("baselines", {}).items()
            if name in ("majority", "bigru")
        },
        "turns": len(contents.predictions),
        "conversations": len(contents.conversations),
        "graph": list(contents.streams),
        "text": contents.text and any(any(c.texts) for c in contents.conversations),
        "notes": list(contents.notes),
    }
