"""A page of labelled conversations that opens offline; it has the conversation view of the report and a summary of each conversation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from erc_graph.data.files.storage import atomic_write
from erc_graph.data.palette import label_colours
from erc_graph.report.explorer import Conversation, json_block, pack
from erc_graph.report.page import TEMPLATES, digest, environment
from erc_graph.report.turning_points import MOST, speaker_totals, turning_points


@dataclass(frozen=True, kw_only=True)
class LabelsPage:
    """The content of the page.

    Attributes:
        title: Name of the input.
        model: Description of the model.
        labels: Names of the classes in index order.
        conversations: Conversations with speakers and predictions, without true labels.
        notes: Assumptions about the input, for the reader.
        unsure: Threshold; an utterance is marked if the probability of its label is lower. Default: no utterance is marked.
    """

    title: str
    model: str
    labels: Sequence[str]
    conversations: Sequence[Conversation]
    notes: Sequence[str] = ()
    unsure: float | None = None


def write_labels_page(path: str | Path, page: LabelsPage) -> Path:
    """Write the page of labelled conversations to `path`, atomically.

    Raises:
        StorageError: the file cannot be written.
    """
    text = render_labels(page).encode("utf-8", errors="replace")
    with atomic_write(path) as temporary:
        temporary.write_bytes(text)
    return Path(path)


def render_labels(page: LabelsPage) -> str:
    """Return the page as HTML text."""
    from markupsafe import Markup

    script = "".join((TEMPLATES / name).read_text(encoding="utf-8") for name in ("explorer.js", "overview.js"))
    return environment().get_template("labels.html").render(
        title=page.title,
        model=page.model,
        notes=page.notes,
        labels=page.labels,
        colours=label_colours(list(page.labels)),
        score=any(c.scores is not None for c in page.conversations),
        tiles=_tiles(page),
        conversations=page.conversations,
        unsure=page.unsure,
        most=MOST,
        style=Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),
        script=Markup(script),
        digest=digest(script),
        data=Markup(json_block(packed(page))),
    )  # fmt: skip


def packed(page: LabelsPage) -> dict[str, Any]:
    """Return the data for the scripts of the page: the data of `erc_graph.report.explorer`, with two more keys per conversation.

    | key | content |
    |---|---|
    | `a` | number of utterances per label, for each speaker |
    | `c` | turning points `[utterance, speaker's previous utterance, change]`, largest first; change in percent, or difference of scores |
    """
    data = pack(page.conversations, page.labels, ())
    for one, c in zip(data["conversations"], page.conversations, strict=True):
        counts = speaker_totals(c, len(page.labels))
        one["a"] = [counts[name] for name in one["n"]]
        one["c"] = [
            [point.turn, point.before, round(100 * point.change) if c.scores is None else round(point.change, 1)]
            for point in turning_points(c)
        ]
    return data


def _tiles(page: LabelsPage) -> list[tuple[str, str]]:
    """Return the name and the value of each number at the top of the page."""
    talks = page.conversations
    counts = [0] * len(page.labels)
    for c in talks:
        for guess in c.guess.tolist():
            counts[guess] += 1
    turns, first = sum(counts), max(range(len(counts)), key=counts.__getitem__)
    tiles = [("conversations", f"{len(talks):,}")] if len(talks) > 1 else []
    tiles += [("utterances", f"{turns:,}"), ("speakers", f"{len({name for c in talks for name in c.speakers}):,}")]
    tiles.append(("most frequent", f"{page.labels[first]}, {counts[first] / max(1, turns):.2f}"))
    if page.unsure is not None:
        unsure = sum(int(c.unsure.sum()) for c in talks if c.unsure is not None)
        tiles.append((f"unsure, below {page.unsure:g}", f"{unsure:,} of {turns:,}"))
    return tiles
