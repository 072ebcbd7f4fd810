"""Pictures of a finished run: this module collects the data, and `erc_graph.report` draws the pictures."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from erc_graph.errors import ErcGraphError
from erc_graph.experiments.jobs import Outcome, fold_folder


def write_pictures(folder: Path, outcome: Outcome) -> None:
    """Draw the pictures of the first seed of a run.

    The pictures are the confusion matrix, the training curves, a t-SNE plot of the classifier inputs, and the graph of a conversation. If a
    picture cannot be drawn, an error message is printed; all other pictures are drawn.
    """
    from erc_graph.report.confusion import plot_confusion
    from erc_graph.report.curves import plot_curves
    from erc_graph.report.projection import plot_projection
    from erc_graph.training.metrics import confusion, seven

    corpus, seed = outcome.corpus, outcome.seeds[0]
    target = corpus.target[seed.rows]
    score = corpus.task.kind == "score"
    names = [f"{value:+d}" for value in range(-3, 4)] if score else list(corpus.task.labels)
    index = seven(target.double().numpy()) + 3 if score else target.numpy()
    pictures: dict[str, Callable[[Path], object]] = {
        "confusion.png": lambda path: plot_confusion(confusion(seed.scores, target, corpus.task), names, path),
        "curves.png": lambda path: plot_curves(seed.histories[0], path),
        "graph.png": lambda path: draw_conversation(path, outcome),
    }
    if seed.states is not None:
        states = seed.states.numpy()
        pictures["tsne.png"] = lambda path: plot_projection(states, index, names, path)
    for name, draw in pictures.items():
        try:
            draw(folder / name)
        except ErcGraphError as error:
            print(f"not drawn: {name}: {error}", file=sys.stderr)


def draw_conversation(path: Path, outcome: Outcome, turns: int = 24) -> bool:
    """Draw the graph of the test conversation with about `turns` utterances; return `False` if the method has no graph."""
    from erc_graph.data.splits import folds
    from erc_graph.inference.pipeline import Pipeline
    from erc_graph.methods.own_file import find_method
    from erc_graph.report.draw import draw_graph
    from erc_graph.training.checkpoint import BEST

    experiment, corpus, seed = outcome.experiment, outcome.corpus, outcome.seeds[0]
    division = folds(corpus, experiment.run.protocol)
    test = corpus.subset(division[0].test)
    dialogue = test[int((test.lengths - turns).abs().argmin())]
    folder = fold_folder(path.parent / f"seed-{seed.seed}", division, division[0])
    pipeline = Pipeline.from_pretrained(folder / BEST, find_method(experiment.method))
    graph = pipeline.graph(dialogue)
    if graph is None:
        return False
    draw_graph(graph, path, predictions=[row.emotion for row in pipeline.predict(dialogue)], title=f"{corpus.name}, {dialogue.id}")
    return True
