"""Text for the terminal without control characters, which could move the cursor, change colours or break a line."""

from __future__ import annotations

import difflib
import io
import os
import re
import sys
import unicodedata
from collections.abc import Iterable


def open_streams() -> None:
    """Prepare standard input, standard output and standard error, so that reading and printing do not fail.

    A question mark replaces each character that the terminal cannot show. The null device replaces a closed stream.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
        elif mode == "w" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def printable(text: object) -> str:
    r"""Return text in which a space replaces each control character. Line breaks stay unchanged.

    >>> printable("red\x1b[31m\ntext")
    'red [31m\ntext'
    """
    return "".join(c if c == "\n" or unicodedata.category(c)[0] != "C" else " " for c in str(text))


def one_line(text: object, most: int = 40) -> str:
    r"""Return text as one line of at most `most` characters, without control characters.

    >>> one_line("two\nlines\x1b[31m")
    'two lines [31m'
    """
    plain = " ".join(printable(text).split())
    return plain if len(plain) <= most else plain[: most - 1] + "…"


def count(number: int, what: str) -> str:
    """Return a number with a noun, in the plural unless the number is 1.

    >>> count(1, "seed"), count(2, "seed")
    ('1 seed', '2 seeds')
    """
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def refusal(error: object, most: int = 480) -> str:
    r"""Return an error message as one line of about `most` characters.

    The lines of the message are joined by semicolons, and control characters are escaped.

    >>> refusal("a: expected 1, found 2\nb: expected 3, found 4")
    'a: expected 1, found 2; b: expected 3, found 4'
    >>> refusal("no\x1b[31mred: no such file")
    'no\\x1b[31mred: no such file'
    """
    problems = [line.strip() for line in str(error).split("\n") if line.strip()]
    shown = ["".join(c if unicodedata.category(c)[0] != "C" else ascii(c)[1:-1] for c in problem) for problem in problems]
    kept = [shown[0] if len(shown[0]) <= most else shown[0][: most - 1] + "…"] if shown else []
    for problem in shown[1:]:
        if sum(map(len, kept)) + 2 * len(kept) + len(problem) > most - 24:
            break
        kept.append(problem)
    return "; ".join([*kept, *([f"and {len(shown) - len(kept)} more problems"] if len(kept) < len(shown) else [])])


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return text that names the known word most similar to an unknown word; the text is empty if no known word is similar.

    >>> nearest("prdict", ["predict", "report"])
    ' (nearest: predict)'
    """
    near = difflib.get_close_matches(word, list(known), 1, cutoff)
    return f" (nearest: {near[0]})" if near else ""


def nearest_option(message: str, options: Iterable[str]) -> str:
    """Return text that names the known option most similar to the unknown option in an error message of argparse.

    The text is empty if no known option is similar.

    >>> nearest_option("unrecognized arguments: --epochs 2", ["--seeds", "--training.epochs"])
    ' (nearest: --training.epochs)'
    """
    unknown = re.search(r"unrecognized arguments: .*?(--[\w.-]+)", message, flags=re.IGNORECASE)
    if not unknown:
        return ""
    name, known = unknown[1].lstrip("-"), [option for option in options if option.startswith("--")]
    same = [option for option in known if option.rpartition(".")[2] == name]
    return f" (nearest: {same[0]})" if same else nearest(unknown[1], known)
