"""The command `erc-graph list`: list known methods, recipes, corpora, tasks and formats."""

from __future__ import annotations

import argparse
import inspect
import json
import sys
import textwrap
from collections.abc import Callable, Sequence

from erc_graph.cli.command import Parser, command
from erc_graph.inference.starter import STARTER, WORDS, starter_card

DESCRIPTION = "List known methods, models, recipes, corpora, tasks or formats, one line each."
EXAMPLES = """  erc-graph list methods
  erc-graph list recipes --json
  erc-graph list models --card starter
      the data, licences, results and unsuitable uses of the starter model
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the argument parser of the command `erc-graph list`."""
    parser = Parser(prog="erc-graph list", description=DESCRIPTION, examples=EXAMPLES)
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True, title="kinds")
    for name, (words, _) in KINDS.items():
        own = kinds.add_parser(name, help=words, description=f"{words[0].upper()}{words[1:]}.")
        own.add_argument("--json", action="store_true", help="print one JSON object of names and their descriptions")
        if name == "models":
            own.add_argument("--card", metavar="NAME", choices=[STARTER], help="print the card of a model, as Markdown")
    return parser


@command
def main(argv: Sequence[str]) -> int:
    """Run the command `erc-graph list` and return its exit code."""
    options = make_parser().parse_args(argv)
    if getattr(options, "card", None):
        print(starter_card(), end="")
        return 0
    entries = KINDS[options.kind][1]()
    if options.json:
        print(json.dumps(entries, ensure_ascii=False, indent=1))
        return 0
    width = max(map(len, entries))
    for name, words in entries.items():
        print(textwrap.fill(f"{name:<{width}}  {words}", 80, subsequent_indent=" " * (width + 2), break_on_hyphens=False))
    return 0


def methods() -> dict[str, str]:
    """Return, for every method, its kind and its paper (without a paper, the first paragraph of the docstring of its file)."""
    from erc_graph.methods import METHODS

    found = {}
    for name, method in METHODS.items():
        words = str(method.paper) if method.paper else _sentence(sys.modules[method.__module__].__doc__)
        found[name] = f"{method.family}: {words}"
        found[name] += "" if method.can_be_causal else " (cannot be causal)"
    return found


def recipes() -> dict[str, str]:
    """Return, for every graph recipe, the description in its TOML file."""
    from erc_graph.graphs.recipe import list_recipes, load_recipe

    return {name: load_recipe(name).description for name in list_recipes()}


def corpora() -> dict[str, str]:
    """Return, for every known data set, its task, its published size, and the methods that have an experiment file for it."""
    from erc_graph.data.statistics import PUBLISHED
    from erc_graph.data.tasks import DEFAULT_TASK
    from erc_graph.experiments.experiment import experiment_file
    from erc_graph.methods import METHODS

    found = {}
    for name, task in DEFAULT_TASK.items():
        words = [f"task {task}"]
        if name in PUBLISHED:
            words.append(f"{PUBLISHED[name].dialogues} dialogues, {PUBLISHED[name].utterances} utterances published")
        if own := [method for method in METHODS if experiment_file(method, name)]:
            words.append(f"settings for {', '.join(own)}")
        found[name] = "; ".join(words)
    return found


def tasks() -> dict[str, str]:
    """Return, for every task, its labels, the label names that it replaces by others, and the label names that it leaves out."""
    from erc_graph.data.tasks import TASKS

    found = {}
    for name, task in TASKS.items():
        words = [", ".join(task.labels) if task.kind == "classification" else "a score in [-3, 3]"]
        words += [f"{old} becomes {new}" for old, new in task.mapping.items()]
        if task.drop:
            words.append(f"without {', '.join(sorted(task.drop))}")
        found[name] = "; ".join(words)
    return found


def models() -> dict[str, str]:
    """Return, for every model that comes with the package, a description."""
    return {STARTER: WORDS}


def formats() -> dict[str, str]:
    """Return, for every annotation format, a description: the first paragraph of the docstring of its reader."""
    from erc_graph.data.files import manifest, saved_corpus
    from erc_graph.data.files.formats import READERS
    from erc_graph.data.files.formats.iemocap import release_annotations
    from erc_graph.data.files.formats.tuples import LAYOUTS, read_tuple

    found = {
        "corpus.toml": _sentence(manifest.__doc__),
        "saved corpus": _sentence(saved_corpus.__doc__),
        "IEMOCAP_full_release": _sentence(inspect.getdoc(release_annotations)),
    }
    for name, reader in READERS.items():
        if reader is read_tuple:
            found[name] = "; ".join(layout.name for layout in LAYOUTS) + "."
        else:
            found[name] = _sentence(inspect.getdoc(reader))
    return found


def _sentence(text: str | None) -> str:
    """First paragraph of a docstring, without backticks."""
    return " ".join((text or "").strip().split("\n\n", 1)[0].split()).replace("`", "")


KINDS: dict[str, tuple[str, Callable[[], dict[str, str]]]] = {
    "methods": ("methods that can be trained", methods),
    "recipes": ("graph recipes", recipes),
    "corpora": ("data sets whose label set the package knows", corpora),
    "tasks": ("label sets for --task", tasks),
    "models": ("trained models that come with the package", models),
    "formats": ("annotation files that can be read", formats),
}
