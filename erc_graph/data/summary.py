"""Summary of a corpus as JSON values and as HTML for notebooks: sizes, splits, labels, modalities and origin."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

import torch

from erc_graph.data.palette import label_colours
from erc_graph.data.ragged import shape_text
from erc_graph.data.statistics import PUBLISHED, check_statistics

if TYPE_CHECKING:
    from erc_graph.data.corpus import Corpus


def summarise(corpus: Corpus) -> dict[str, Any]:
    """Return a summary of a corpus as a dictionary of JSON values. Some of the keys need an explanation:

    - `labels`: number of utterances with each label, in total and by split. For this count, scores are rounded to integers from -3 to +3.
    - `modalities`: for each modality, the width of the features and the number of utterances that lack the modality.
    - `sequences`: for each modality, the shape of one word, frame or sample, and the lengths of the sequences. A waveform has
      16 000 samples per second.
    - `published`: differences from the published counts of the data set; `None` if no counts are published.

    >>> from erc_graph.data.sample.vectors import sample_corpus
    >>> page = summarise(sample_corpus(dialogues=10))
    >>> page["dialogues"], list(page["modalities"]), page["published"]
    (10, ['text', 'audio', 'visual'], None)
    """
    lengths, labelled = corpus.lengths, corpus.labelled
    names, index = _classes(corpus)
    parts = {split: corpus.rows(corpus.position[name] for name in ids) for split, ids in corpus.splits.items()}
    counts = {"all": torch.bincount(index[labelled], minlength=len(names)).tolist()}
    for split, rows in parts.items():
        counts[split] = torch.bincount(index[rows][labelled[rows]], minlength=len(names)).tolist()
    provenance = corpus.provenance
    differences = check_statistics(corpus)
    return {
        "name": corpus.name,
        "task": corpus.task.name,
        "kind": corpus.task.kind,
        "format": provenance.get("format"),
        "dataset": provenance.get("dataset"),
        "dialogues": len(corpus),
        "utterances": corpus.utterances,
        "labelled": int(labelled.sum()),
        "speakers": len(set(corpus.speakers)),
        "turns": _lengths(lengths),
        "texts": bool(corpus.texts),
        "splits": {
            split: {"dialogues": len(corpus.splits[split]), "utterances": len(rows), "labelled": int(labelled[rows].sum())}
            for split, rows in parts.items()
        },
        "labels": {name: {part: values[i] for part, values in counts.items()} for i, name in enumerate(names)},
        "modalities": {
            name: {
                "width": value.shape[1],
                "missing": int((~corpus.present[name]).sum()),
                "missing_share": float((~corpus.present[name]).double().mean()),
                "extractor": (provenance.get("extractors") or {}).get(name),
            }
            for name, value in corpus.features.items()
        },
        "sequences": {
            name: {
                "item": list(value.item),
                "type": str(value.values.dtype).removeprefix("torch."),
                "items": len(value.values),
                "lengths": _lengths(value.lengths[value.lengths > 0]),
                "missing": int((value.lengths == 0).sum()),
                "missing_share": float((value.lengths == 0).double().mean()),
                "extractor": (provenance.get("extractors") or {}).get(name) if name not in corpus.features else None,
            }
            for name, value in corpus.sequences.items()
        },
        "files": dict(provenance.get("files") or {}),
        "notes": [note for note in provenance.get("notes") or () if note not in differences],
        "published": differences if str(provenance.get("dataset")) in PUBLISHED else None,
    }


def _lengths(lengths: torch.Tensor) -> dict[str, float]:
    if not len(lengths):
        return {}
    return {"min": int(lengths.min()), "median": float(lengths.double().median()), "max": int(lengths.max())}


def _classes(corpus: Corpus) -> tuple[list[str], torch.Tensor]:
    """Return the names of the classes to count, and the class index of each utterance, `(U,)`.

    The index of an unlabelled utterance has no meaning.
    """
    if corpus.task.kind == "classification":
        return list(corpus.task.labels), corpus.target
    return [f"{value:+d}" if value else "0" for value in range(-3, 4)], corpus.target.nan_to_num(0).round().clamp(-3, 3).long() + 3


def summary_html(corpus: Corpus) -> str:
    """Return the summary of a corpus as an HTML fragment, which is readable on dark and light pages. Names are escaped for HTML."""
    page = summarise(corpus)
    most = max((counts["all"] for counts in page["labels"].values()), default=0) or 1
    total = page["labelled"] or 1
    bars = "".join(
        f'<tr><th scope="row" style="text-align:left;font-weight:normal">{escape(name)}</th><td>{counts["all"]}</td>'
        f'<td style="text-align:left"><span style="display:inline-block;height:.7em;width:{120 * counts["all"] / most:.0f}px;'
        f'background:{colour}"></span> {counts["all"] / total:.3f}</td></tr>'
        for (name, counts), colour in zip(page["labels"].items(), label_colours(list(page["labels"])), strict=True)
    )
    splits = "; ".join(f"{name} {size['dialogues']}" for name, size in page["splits"].items()) or "no split"
    widths = "; ".join(
        f"{escape(name)} {part['width']}" + (f" ({part['missing_share']:.3f} missing)" if part["missing"] else "")
        for name, part in page["modalities"].items()
    )
    inner = "; ".join(
        f"{escape(name)} sequences of {shape_text(tuple(part['item']))}"
        + (f" ({part['missing_share']:.3f} missing)" if part["missing"] else "")
        for name, part in page["sequences"].items()
    )
    widths = "; ".join(filter(None, (widths, inner)))
    return (
        f"<div><strong>{escape(page['name'])}</strong>: {page['dialogues']} dialogues ({splits}), {page['utterances']} utterances; "
        f"{widths or 'no features'}; task {escape(page['task'])}"
        f"<table><thead><tr><th>label</th><th>utterances</th><th></th></tr></thead><tbody>{bars}</tbody></table></div>"
    )
