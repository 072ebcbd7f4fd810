"""`python -m benchmarks.method_pages`: write a page per method for the website (`make docs`) and the tables of methods (`make tables`).

A page contains a description of the method, a table of measured results, a table of published results, and the docstring of the method
file with all equations. The columns `streams` and `causal` are determined by running the method. The column `parameters` gives the number
of parameters with the settings for IEMOCAP, with 384 text features and 73 audio features.
"""

from __future__ import annotations

import json
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any, get_args

import torch

from erc_graph.data.files.toml import read_toml
from erc_graph.data.nodes import Nodes
from erc_graph.data.sample.raw import sample_raw_corpus
from erc_graph.data.sample.vectors import sample_corpus
from erc_graph.data.tasks import TASKS
from erc_graph.errors import ConfigError
from erc_graph.experiments.display import measured
from erc_graph.experiments.experiment import experiment_file, from_dict
from erc_graph.experiments.published import load_published
from erc_graph.methods import METHODS
from erc_graph.methods.base import Family, Method
from erc_graph.methods.schema import Schema
from erc_graph.report.text_tables import markdown_table

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "experiments" / "results"
CORPORA = {"iemocap6": "IEMOCAP, six emotions", "meld": "MELD", "emorynlp": "EmoryNLP", "mosi": "MOSI"}


def built(name: str, corpus: str, schema: Schema) -> Method:
    """Return the method with its committed settings for a corpus, or with its defaults."""
    path, kind = experiment_file(name, corpus), METHODS[name]
    if name == "bigru" or path is None:
        return kind(schema)
    settings = from_dict(name, read_toml(path), path.name)
    return kind(schema, settings.pipeline, inputs=settings.inputs)


def streams_of(name: str) -> str:
    """Return the numbers of nodes per utterance in the parts that read other utterances, for three modalities, such as `1, 3`, or `–`."""
    vectors = "features" in METHODS[name].reads
    corpus = sample_corpus(dialogues=4) if vectors else sample_raw_corpus(dialogues=4)
    method = built(name, "sample" if vectors else "sample-raw", Schema.of(corpus, reads=METHODS[name].reads)).eval()
    counts: set[int] = set()

    def count(part: torch.nn.Module, given: tuple[Any, ...]) -> None:
        counts.update(value.states.shape[1] for value in given if isinstance(value, Nodes))

    for _, part in method.over_turns():
        part.register_forward_pre_hook(count)
    with torch.no_grad():
        method(method.schema.batch(corpus))
    return ", ".join(map(str, sorted(counts))) or "–"


def parameters_of(name: str) -> str:
    """Return the number of parameters with the settings for IEMOCAP; `–` for a method that reads raw audio or faces."""
    schema = Schema(widths={"audio": 73, "text": 384}, task=TASKS["iemocap6"])
    try:
        return f"{sum(parameter.numel() for parameter in built(name, 'iemocap6', schema).parameters()):,}".replace(",", " ")
    except ConfigError:
        return "–"


def causal_of(kind: type[Method]) -> str:
    """Return whether a method is causal: `option`, `always` or `no`."""
    if not kind.can_be_causal:
        return "no"
    return "option" if any(one.name == "causal" for one in fields(kind.Config)) else "always"


def source_of(name: str) -> str:
    """Return the source of a method, or a short description."""
    kind = METHODS[name]
    if kind.paper:
        paper, said = kind.paper, f"{kind.paper.authors}, {kind.paper.venue}, {kind.paper.year}"
        return ("after " if paper.after else "") + (f"[{said}]({paper.url})" if paper.url else said)
    return kind.stands_for or (kind.__doc__ or "").split(".")[0]


@cache
def results_of(name: str, corpus: str) -> tuple[dict[str, Any], ...]:
    """Return the recorded main results of a method, with its graph, on a corpus."""
    paths = [path for path in sorted((RESULTS / corpus).glob(f"{name}*.json")) if "-table-" not in path.stem]
    found = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    return tuple(result for result in found if result.get("method") == name and result["config"]["pipeline"].get("graph") != "none")


def score_of(name: str, corpus: str) -> str:
    """Return the weighted F1 on the test split, of the result with the most modalities; empty if not measured."""
    found = sorted(results_of(name, corpus), key=lambda result: -len(result["modalities"]))
    return measured(found[0]["metrics"]["test"]["weighted_f1"]) if found else ""


def kinds_table() -> str:
    """Return the table of methods by kind, for README.md."""
    rows = []
    for family in get_args(Family):
        names = [name for name, kind in METHODS.items() if kind.family == family]
        rows.append([family, str(len(names)), ", ".join(names)])
    return markdown_table(["kind", "", "methods"], rows)


def methods_table() -> str:
    """Return the table of all methods: source, kind, inputs, causal, streams, parameters, measured results."""
    rows, words = [], {"features": "vectors", "sequences": "sequences"}
    for name, kind in METHODS.items():
        reads = ", ".join(words[form] for form in kind.reads)
        facts = [source_of(name), kind.family, reads, causal_of(kind), streams_of(name), parameters_of(name)]
        rows.append([f"`{name}`", *facts, score_of(name, "iemocap6"), score_of(name, "meld")])
    head = ["method", "source", "kind", "reads", "causal", "streams", "parameters", "wF1 IEMOCAP", "wF1 MELD"]
    return markdown_table(head, rows).replace("\\`", "`")


def published_rows(name: str) -> list[list[str]]:
    """Return the rows of published results from the method's own paper."""
    rows = []
    for corpus, words in CORPORA.items():
        for table in load_published(corpus):
            for row in table.rows if table.of == name else ():
                figures = (row.accuracy, row.weighted_f1)
                shown = ["" if value is None else f"{value:.3f}" for value in figures]
                rows.append([words, row.name, *shown, table.features, row.epoch_on_test])
    return rows


def measured_rows(name: str) -> list[list[str]]:
    """Return the rows of measured results."""
    rows = []
    for corpus, words in CORPORA.items():
        for result in results_of(name, corpus):
            test = result["metrics"]["test"]
            figures = [measured(test[metric]) for metric in ("accuracy", "weighted_f1", "macro_f1")]
            rows.append([words, "+".join(result["modalities"]), *figures, str(len(test["accuracy"]["values"]))])
    return rows


def page(name: str) -> str:
    """Return the page of a method, in Markdown."""
    kind = METHODS[name]
    lines = [f"# {name}", ""]
    if kind.paper:
        paper, links = kind.paper, []
        links += [f"[paper]({paper.url})"] if paper.url else []
        links += [f"[public code]({paper.code})"] if paper.code else []
        lines += [f"{paper}{': ' if links else ''}{', '.join(links)}.", "", "```bibtex", paper.bibtex, "```", ""]
    elif kind.stands_for:
        lines += [kind.stands_for, ""]
    facts = [["kind", kind.family], ["causal", causal_of(kind)], ["nodes per turn", streams_of(name)], ["parameters", parameters_of(name)]]
    lines += [markdown_table(["", ""], facts), ""]
    lines += [f"`erc-graph experiment {name}` trains it on the sample corpus; `--help` lists its options.", ""]
    if rows := measured_rows(name):
        lines += ["## Measured", "", "Test split, mean and standard deviation over seeds.", ""]
        lines += [markdown_table(["corpus", "modalities", "accuracy", "wF1", "macro F1", "seeds"], rows), ""]
    if rows := published_rows(name):
        lines += ["## Published", "", "On the paper's own features; not to be compared with the measured figures.", ""]
        lines += [markdown_table(["corpus", "row", "accuracy", "wF1", "features", "epoch chosen on test"], rows), ""]
    docstring = ["```{eval-rst}", f".. automodule:: {kind.__module__}", "   :no-index:", "   :no-members:", "```"]
    return "\n".join([*lines, "## Equations", "", *docstring, ""])


def write_pages(folder: Path) -> None:
    """Write one page per method to a folder."""
    folder.mkdir(exist_ok=True)
    for name in METHODS:
        (folder / f"{name}.md").write_text(page(name), encoding="utf-8")


def main() -> int:
    write_pages(ROOT / "docs" / "methods")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
