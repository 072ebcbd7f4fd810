"""The command `erc-graph graph`: draw the graphs of one or several conversations."""

from __future__ import annotations

import argparse
import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from erc_graph.cli.command import Parser, add_method, command, remark
from erc_graph.data.printable import one_line
from erc_graph.errors import ConfigError

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

    from erc_graph.data.corpus import Corpus
    from erc_graph.inference.answer import Answer
    from erc_graph.inference.pipeline import Pipeline

DESCRIPTION = """Draw conversations as graphs: one row of nodes per modality, with the utterances
from left to right.

The ending of --out sets the file type:
  .png .svg   a picture; one file per conversation
  .html       a page for a browser with all conversations; to see the edges of
              an utterance, point at it or use the arrow keys
  .graphml    nodes, edges and weights for Gephi, Cytoscape or yEd

With --model, the picture shows the edge weights of a trained model, and its
predictions next to the labels.
"""
EXAMPLES = """  erc-graph graph sample
      draw the first conversation of the sample corpus as graph.png
  erc-graph graph corpora/meld --dialogue train_dia0 test_dia7 --out two.html
      draw two conversations, given by their ids, in one page
  erc-graph graph corpora/meld --split test --first 20 --out test.html
      draw the first twenty conversations of the test split
  erc-graph graph corpora/iemocap --recipe speaker --out speaker.svg
      draw with another graph recipe; `erc-graph list recipes` lists all recipes
  erc-graph graph corpora/meld --split test --model runs/meld --out model.html
      draw the edge weights and predictions of a trained model
"""
KINDS = (".png", ".svg", ".graphml", ".html")


def make_parser() -> argparse.ArgumentParser:
    """Return the argument parser of the command `erc-graph graph`."""
    parser = Parser(prog="erc-graph graph", description=DESCRIPTION, examples=EXAMPLES, usage="%(prog)s DATA [options]")
    parser.add_argument("data", metavar="DATA", help="folder with corpus.toml, saved corpus, annotation file, `sample` or `sample-raw`")
    parser.add_argument("--dialogue", nargs="+", metavar="ID", help="ids of conversations, or their positions from 0 (default: the first)")
    parser.add_argument("--split", choices=("train", "dev", "test"), help="only conversations of this split")
    parser.add_argument("--first", type=int, default=1, metavar="N", help="without --dialogue: number of conversations (default: 1)")
    parser.add_argument("--recipe", metavar="NAME", help="a graph recipe, or the path of your own .toml (default: pairwise)")
    parser.add_argument(
        "--model", metavar="RUN", help="folder of a run, a saved model, the name of a model on the Hugging Face hub, or starter"
    )
    add_method(parser)
    parser.add_argument("--part", metavar="NAME", help="name of the graph to draw, if the model has several (default: the last)")
    parser.add_argument("--modalities", nargs="+", metavar="NAME", help="modalities to draw (default: all modalities of the corpus)")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("graph.png"),
        metavar="FILE",
        help="file that ends in .png, .svg, .graphml or .html (default: graph.png)",
    )
    parser.add_argument("--task", metavar="NAME", help="label set, for example iemocap4 (default: the corpus's own)")
    parser.add_argument(
        "--strict",
        action="store_true",
        help="report features with NaN, inf or numbers beyond 1e15 as an error instead of treating them as missing",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


@command
def main(argv: Sequence[str]) -> int:
    """Run the command `erc-graph graph` and return its exit code."""
    options = make_parser().parse_args(argv)
    check_name("--out", options.out)
    if options.first < 1:
        raise ConfigError(f"--first: expected a number of conversations of 1 or more, found {options.first}")
    recipe, corpus, graphs, predictions = _by_recipe(options) if options.model is None else _by_model(options)
    ids = list(corpus.dialogue_ids)
    files = write_graphs(graphs, options.out, corpus, predictions)
    if options.json:
        print(json.dumps({"written": [str(file) for file in files], "dialogues": ids, "recipe": recipe}, ensure_ascii=False))
    else:
        for file in files:
            print(f"written: {file}")
    return 0


def _by_recipe(options: argparse.Namespace) -> tuple[str, Corpus, list[HeteroData], None]:
    """The graphs that a recipe builds for the selected conversations."""
    from erc_graph.data.files.load import load_corpus
    from erc_graph.graphs.build import build_graph
    from erc_graph.graphs.recipe import load_recipe

    for name in ("method", "part"):
        if getattr(options, name) is not None:
            raise ConfigError(f"--{name}: expected a trained model as well, found none; give its folder with --model RUN")
    recipe = load_recipe(options.recipe or "pairwise")
    corpus = wanted(load_corpus(options.data, task=options.task, strict=options.strict), options)
    return recipe.name, corpus, [build_graph(dialogue, recipe, options.modalities) for dialogue in corpus], None


def _by_model(options: argparse.Namespace) -> tuple[str | None, Corpus, list[HeteroData], list[list[str]]]:
    """The graphs of the selected conversations with the edge weights of a trained model, and the predictions of this model."""
    for name in ("recipe", "modalities", "task"):
        if getattr(options, name) is not None:
            raise ConfigError(
                f"--{name}: expected no value, because the model of --model already determines it, found {getattr(options, name)!r}; "
                f"leave out --{name}"
            )
    from erc_graph.data.files.load import load_corpus
    from erc_graph.inference.prepare import prepare

    pipeline = load_model(options.model, options.method)
    corpus = wanted(load_corpus(options.data, strict=options.strict), options)
    corpus = prepare(corpus, pipeline, say=remark)
    recipe, graphs = pipeline.method.graph, model_graphs(pipeline, corpus, options.part)
    if options.part is None and len(names := list(pipeline.graphs(next(iter(corpus))))) > 1:
        others = " or ".join(shlex.quote(name) for name in names[:-1])
        remark(f"{names[-1]} is drawn; to draw another graph of this model, give --part {others}")
    return recipe.name if recipe else None, corpus, graphs, emotions(pipeline.predict(corpus))


def load_model(source: str, method: str | None) -> Pipeline:
    """Load a trained model.

    Args:
        source: Folder of a run, a saved model, or the name of a model on the Hugging Face hub.
        method: File and class of a user's own method, such as `my_method.py:Own`; `None` for a method of the package.

    Raises:
        ConfigError: the method of the run is defined in a user's file, and `method` is `None` or cannot be imported.
        CheckpointError: the model is not found, or is damaged.
    """
    from erc_graph.experiments.settings import named_again
    from erc_graph.inference.pipeline import Pipeline
    from erc_graph.methods.own_file import find_method

    own = named_again(source, method)
    return Pipeline.from_pretrained(source, find_method(own) if own else None)


def model_graphs(pipeline: Pipeline, corpus: Corpus, part: str | None = None) -> list[HeteroData]:
    """Return the graph of every conversation, with the edge weights of a trained model.

    Args:
        pipeline: The model.
        corpus: The conversations.
        part: Name of the graph, if the model has several graphs; default: the last graph.

    Raises:
        ConfigError: the method has no graph, or no graph of this name.
    """
    graphs = [pipeline.graph(dialogue, part) for dialogue in corpus]
    drawn = [graph for graph in graphs if graph is not None]
    if len(drawn) < len(graphs):
        raise ConfigError(
            f"the method {type(pipeline.method).__name__} builds no graph; expected a trained model of a method that builds one, "
            "such as the method `pairwise`"
        )
    return drawn


def emotions(rows: Sequence[Answer]) -> list[list[str]]:
    """Return the predicted emotions of the utterances of every conversation."""
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row.dialogue, []).append(row.emotion)
    return list(found.values())


def check_name(option: str, out: Path) -> None:
    """Check that a file name ends in `.png`, `.svg`, `.graphml` or `.html`.

    Raises:
        ConfigError: the file name has another ending.
    """
    if out.suffix.lower() not in KINDS:
        raise ConfigError(f"{option}: expected a file name ending in {', '.join(KINDS)}, found {out.name!r}")


def write_graphs(graphs: Sequence[HeteroData], out: Path, corpus: Corpus, predictions: Sequence[Sequence[str]] | None = None) -> list[Path]:
    """Write the graphs, and return the written files: one HTML page for all conversations, or one file per conversation."""
    from erc_graph.report.interactive import show, write_page

    ids = corpus.dialogue_ids
    if out.suffix.lower() == ".html":
        title = None if len(ids) == 1 else f"{corpus.name}, {len(ids)} conversations"
        return [write_page(graphs, out, predictions=predictions, title=title)]
    guesses: Sequence[Sequence[str] | None] = predictions or [None] * len(graphs)
    files = file_names(out, ids)
    return [show(graph, predictions=guess).save(path) for graph, guess, path in zip(graphs, guesses, files, strict=True)]


def wanted(corpus: Corpus, options: argparse.Namespace) -> Corpus:
    """Return the conversations that the options `--split`, `--dialogue` and `--first` select."""
    return corpus.subset(chosen(corpus.split(options.split) if options.split else corpus, options.dialogue, options.first))


def chosen(corpus: Corpus, names: Sequence[str] | None, first: int) -> list[str]:
    """Return the ids of the selected dialogues, without repeated ids.

    Raises:
        ConfigError: a value of the option `--dialogue` is neither the id nor the position of a dialogue.
    """
    if names is None:
        return list(corpus.dialogue_ids[:first])
    found = []
    for name in names:
        if name in corpus.position:
            found.append(name)
        elif name.isascii() and name.isdigit() and len(name) < 10 and int(name) < len(corpus):
            found.append(corpus.dialogue_ids[int(name)])
        else:
            some = ", ".join(corpus.dialogue_ids[:3])
            raise ConfigError(
                f"--dialogue: no {one_line(name)!r} among {len(corpus)} dialogues; "
                f"expected a dialogue id, such as {some}, or the position of a dialogue, counted from 0"
            )
    return list(dict.fromkeys(found))


def file_names(out: Path, ids: Sequence[str]) -> list[Path]:
    """Return `out` if there is a single dialogue, and otherwise one file name per dialogue, which contains the id of the dialogue.

    Characters of an id other than letters, digits, `.`, `-` and `_` are replaced by `_`.

    >>> [path.name for path in file_names(Path("a.png"), ["x/../y", "x y y"])]
    ['a-x_.._y.png', 'a-x_y_y.png']
    """
    if len(ids) == 1:
        return [out]
    taken: dict[str, int] = {}
    names = []
    for name in ids:
        safe = re.sub(r"[^\w.-]+", "_", name)[:60]
        times = taken[safe.lower()] = taken.get(safe.lower(), 0) + 1
        names.append(out.with_name(f"{out.stem}-{safe}{f'-{times}' if times > 1 else ''}{out.suffix}"))
    return names
