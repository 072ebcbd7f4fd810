"""`erc-graph graph`: draw one or several conversations."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from erc_graph.cli.command import Parser, command
from erc_graph.errors import ConfigError

if TYPE_CHECKING:
    from erc_graph.data.corpus import Corpus

DESCRIPTION = """Draw conversations as graphs: one lane per modality, time from left to right.

The ending of --out chooses the form:
  .png .svg   a picture; several conversations become several files
  .html       one page to explore in a browser, offline: point at a turn, or
              walk with the arrow keys; holds several conversations
  .graphml    nodes, edges and weights for Gephi, Cytoscape, yEd
"""
EXAMPLES = """  erc-graph graph sample
      the first conversation of the generated corpus, as graph.png
  erc-graph graph corpora/meld --dialogue train_dia0 test_dia7 --out two.html
      two conversations by id, in one page
  erc-graph graph corpora/meld --split test --first 20 --out test.html
      the first twenty of a split
  erc-graph graph corpora/iemocap --recipe speaker --out speaker.svg
      another graph; `erc-graph list recipes` names them
"""
KINDS = (".png", ".svg", ".graphml", ".html")


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command."""
    parser = Parser(prog="erc-graph graph", description=DESCRIPTION, examples=EXAMPLES, usage="%(prog)s DATA [options]")
    parser.add_argument("data", metavar="DATA", help="folder with corpus.toml, saved corpus, annotation file, `sample` or `sample-raw`")
    parser.add_argument("--dialogue", nargs="+", metavar="ID", help="conversations by id, or by position from 0 (default: the first)")
    parser.add_argument("--split", choices=("train", "dev", "test"), help="only conversations of this split")
    parser.add_argument("--first", type=int, default=1, metavar="N", help="without --dialogue: how many conversations (default: 1)")
    parser.add_argument(
        "--recipe", default="pairwise", metavar="NAME", help="a graph recipe, or the path of one's own .toml (default: pairwise)"
    )
    parser.add_argument("--modalities", nargs="+", metavar="NAME", help="lanes (default: all that the corpus has)")
    parser.add_argument(
        "--out", type=Path, default=Path("graph.png"), metavar="FILE", help="ends in .png, .svg, .graphml or .html (default: graph.png)"
    )
    parser.add_argument("--task", metavar="NAME", help="label set, for example iemocap4 (default: the corpus's own)")
    parser.add_argument("--strict", action="store_true", help="refuse features with NaN or inf instead of masking them as missing")
    parser.add_argument("--json", action="store_true", help="for machines: one JSON object on standard output")
    return parser


@command
def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    options = make_parser().parse_args(argv)
    kind = options.out.suffix.lower()
    if kind not in KINDS:
        raise ConfigError(f"--out: expected a file name ending in {', '.join(KINDS)}, found {options.out.name!r}")
    if options.first < 1:
        raise ConfigError(f"--first: expected 1 or more, found {options.first}")

    from erc_graph.data.load import load_corpus
    from erc_graph.graphs.build import build_graph
    from erc_graph.graphs.recipe import load_recipe

    recipe = load_recipe(options.recipe)
    corpus = load_corpus(options.data, task=options.task, strict=options.strict)
    ids = chosen(corpus.split(options.split) if options.split else corpus, options.dialogue, options.first)
    graphs = [build_graph(corpus[name], recipe, options.modalities) for name in ids]
    if kind == ".html":
        from erc_graph.graphs.interactive import write_page

        title = None if len(ids) == 1 else f"{corpus.name}, {len(ids)} conversations"
        files = [write_page(graphs, options.out, title=title)]
    else:
        from erc_graph.graphs.interactive import show

        files = [show(graph).save(path) for graph, path in zip(graphs, file_names(options.out, ids), strict=True)]
    if options.json:
        print(json.dumps({"written": [str(file) for file in files], "dialogues": ids, "recipe": recipe.name}, ensure_ascii=False))
    else:
        for file in files:
            print(f"written: {file}")
    return 0


def chosen(corpus: Corpus, names: Sequence[str] | None, first: int) -> list[str]:
    """Ids of the wanted dialogues, each once.

    Raises:
        ConfigError: neither an id nor a position.
    """
    if names is None:
        return list(corpus.dialogue_ids[:first])
    found = []
    for name in names:
        if name in corpus.position:
            found.append(name)
        elif name.isascii() and name.isdigit() and int(name) < len(corpus):
            found.append(corpus.dialogue_ids[int(name)])
        else:
            some = ", ".join(corpus.dialogue_ids[:3])
            raise ConfigError(f"--dialogue: no {name!r} among {len(corpus)} dialogues; expected an id ({some}, …) or a position from 0")
    return list(dict.fromkeys(found))


def file_names(out: Path, ids: Sequence[str]) -> list[Path]:
    """`out` for one dialogue, else one name per dialogue beside it: ids are data, so only letters, digits, `.`, `-` and `_` are kept.

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
