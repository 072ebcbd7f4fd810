"""The command `erc-graph corpus`: inspect, validate, convert or save a corpus."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from erc_graph.cli.command import Parser, bar, command, red
from erc_graph.data.printable import count, printable

if TYPE_CHECKING:
    from erc_graph.data.corpus import Corpus

DESCRIPTION = "Inspect, validate, convert or save a corpus of conversations."
EXAMPLES = """  erc-graph corpus inspect sample
      inspect the generated sample corpus
  erc-graph corpus inspect corpora/iemocap --task iemocap4
      with another label set; `erc-graph list tasks` lists all label sets
  erc-graph corpus validate corpora/mine --strict
      also report NaN, inf and numbers beyond 1e15 in features as problems
  erc-graph corpus convert corpora/meld meld.jsonl
      write one line per utterance, for another program
  erc-graph corpus save IEMOCAP_features.pkl corpora/iemocap
      convert a pickle of features to a folder without pickle
"""
ACTIONS = {
    "inspect": "show the sizes, splits, labels, modalities and files of a corpus, and notes",
    "validate": "list all problems and notes of a corpus; with problems, the exit code is 2",
    "convert": "write the utterances as a table (.csv, .jsonl), or as a folder like `save`",
    "save": "write the corpus to a folder of safetensors and JSON files, without pickle",
}


def make_parser() -> argparse.ArgumentParser:
    """Return the argument parser of the command `erc-graph corpus`."""
    parser = Parser(prog="erc-graph corpus", description=DESCRIPTION, examples=EXAMPLES)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True, title="actions")
    for name, words in ACTIONS.items():
        own = actions.add_parser(name, help=words, description=f"{words[0].upper()}{words[1:]}.")
        own.add_argument("data", metavar="DATA", help="folder with corpus.toml, saved corpus, annotation file, `sample` or `sample-raw`")
        if name in ("convert", "save"):
            kinds = "a folder" if name == "save" else "a folder, or a file that ends in .csv or .jsonl"
            own.add_argument("out", metavar="OUT", type=Path, help=f"{kinds}; the output is written completely or not at all")
        own.add_argument("--task", metavar="NAME", help="label set, for example iemocap4 (default: the corpus's own)")
        own.add_argument(
            "--strict",
            action="store_true",
            help="report features with NaN, inf or numbers beyond 1e15 as an error instead of treating them as missing",
        )
        own.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


@command
def main(argv: Sequence[str]) -> int:
    """Run the command `erc-graph corpus` and return its exit code."""
    options = make_parser().parse_args(argv)
    if options.action == "validate":
        return _validate(options)

    from erc_graph.data.files.load import load_corpus

    corpus = load_corpus(options.data, task=options.task, strict=options.strict)
    if options.action == "inspect":
        from erc_graph.data.summary import summarise

        page = summarise(corpus)
        print(json.dumps(page, ensure_ascii=False, indent=1) if options.json else show(page))
        return 0
    return _write(corpus, options)


def _validate(options: argparse.Namespace) -> int:
    from erc_graph.data.validation import validate_corpus

    found = validate_corpus(options.data, task=options.task, strict=options.strict)
    if options.json:
        print(json.dumps({"valid": not found.problems, "problems": found.problems, "notes": found.notes}, ensure_ascii=False, indent=1))
        return 2 if found.problems else 0
    for problem in found.problems:
        print(f"{red('problem')}  {printable(problem)}")  # as it is: paths to copy
    for note in found.notes:
        print(_wrapped("note     ", note))
    if found.problems:
        print(f"error: {options.data}: {count(len(found.problems), 'problem')}", file=sys.stderr)
        return 2
    print(f"{found.corpus}\nno problem, {count(len(found.notes), 'note')}")
    return 0


def _write(corpus: Corpus, options: argparse.Namespace) -> int:
    from erc_graph.data.files.export import TABLES, write_turns

    table = options.action == "convert" and options.out.suffix.lower() in TABLES
    if table:
        write_turns(corpus, options.out)
        if kept := tuple(dict.fromkeys((*corpus.modalities, *corpus.sequences))):
            print(
                f"note: a table has no features; {', '.join(kept)} are left out (give a folder as output to save them as well)",
                file=sys.stderr,
            )
    elif options.action == "convert" and options.out.suffix and not options.out.is_dir():
        from erc_graph.errors import ConfigError

        raise ConfigError(
            f"{options.out}: expected a folder, or a file name ending in {' or '.join(TABLES)}, found the ending {options.out.suffix!r}"
        )
    else:
        corpus.save(options.out)
    if options.json:
        print(json.dumps({"written": str(options.out), "dialogues": len(corpus), "utterances": corpus.utterances}, ensure_ascii=False))
    else:
        print(f"written: {options.out} ({len(corpus)} dialogues, {corpus.utterances} utterances)")
    return 0


def show(page: Mapping[str, Any]) -> str:
    """Return the output of `corpus inspect` for a terminal of 80 columns."""
    from erc_graph.data.printable import one_line
    from erc_graph.report.text_tables import text_table

    turns = page["turns"]
    lines = [
        f"{one_line(page['name'])}: {page['dialogues']} dialogues, {page['utterances']} utterances, {page['speakers']} speaker names",
        f"recognised as {one_line(page['format'] or 'a corpus', 60)}; task {one_line(page['task'])}",
    ]
    if turns:
        lines.append(f"utterances per dialogue: {turns['min']} to {turns['max']}, median {turns['median']:.0f}")
    if not page["texts"]:
        lines.append("no texts")
    parts = list(page["splits"])
    if parts:
        rows = [[name, *page["splits"][name].values()] for name in parts]
        lines += ["", text_table(["split", "dialogues", "utterances", "labelled"], rows)]
    else:
        lines += ["", "no splits"]
    labels = page["labels"]
    if page["labelled"]:
        most = max(counts["all"] for counts in labels.values())
        rows = [
            [name, *(counts[part] for part in parts), counts["all"], f"{counts['all'] / page['labelled']:.3f}"]
            for name, counts in labels.items()
        ]
        table = text_table(["score" if page["kind"] == "score" else "label", *parts, "all", "share"], rows, width=56).splitlines()
        bars = ["", "", *(bar(counts["all"] / most, 20) for counts in labels.values())]
        bars += [""] * (len(table) - len(bars))  # a long name was wrapped
        lines += ["", *(f"{row}  {blocks}".rstrip() for row, blocks in zip(table, bars, strict=True))]
    else:
        lines += ["", "no labels: emotions can be predicted, but the predictions cannot be evaluated"]
    if page["modalities"]:
        rows = [
            [name, part["width"], part["missing"], f"{part['missing_share']:.3f}", part["extractor"]]
            for name, part in page["modalities"].items()
        ]
        lines += ["", text_table(["modality", "width", "missing", "share", "made by"], rows)]
    elif not page["sequences"]:
        lines += ["", "no features"]
    if page["sequences"]:
        from erc_graph.data.ragged import shape_text

        rows = [
            [
                name,
                shape_text(tuple(part["item"])),
                _span(part["lengths"], waveform=not part["item"]),
                part["missing"],
                f"{part['missing_share']:.3f}",
                part["extractor"],
            ]
            for name, part in page["sequences"].items()
        ]
        lines += ["", text_table(["sequences", "item", "shortest, median, longest", "missing", "share", "made by"], rows)]
    if page["published"] is not None:
        lines += ["", f"published sizes: {'as published' if not page['published'] else 'differ'}"]
        lines += [f"  {red(one_line(line, 300))}" for line in page["published"]]
    if page["files"]:
        lines += ["", "files (SHA-256)", *(f"  {digest[:16]}…  {one_line(name, 58)}" for name, digest in page["files"].items())]
    if page["notes"]:
        lines += ["", "notes", *(_wrapped("  ", note) for note in page["notes"])]
    return "\n".join(lines)


def _span(lengths: Mapping[str, float], *, waveform: bool) -> str:
    """The shortest, median and longest sequence: in items, or in seconds for a waveform."""
    from erc_graph.data.ragged import SAMPLING_RATE

    if not lengths:
        return "none"
    values = [lengths[name] for name in ("min", "median", "max")]
    return ", ".join(f"{value / SAMPLING_RATE:.2f} s" if waveform else f"{value:.0f}" for value in values)


def _wrapped(start: str, text: str) -> str:
    """A sentence wrapped at 80 columns. The first line begins with `start`; the other lines are indented by the length of `start`."""
    return textwrap.fill(
        printable(text), 80, initial_indent=start, subsequent_indent=" " * len(start), break_long_words=False, break_on_hyphens=False
    )
