"""ICON: arrays of the public code's equations without its empty turns, dialogue by dialogue and all at once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from erc_graph.methods.icon import ICON, ICONConfig
from tests.methods.reference.conftest import SPEAKERS, Reference, build, random_batch, stir
from tests.methods.reference.test_cmn import cells, check, dialogues, windows

pytestmark = pytest.mark.reference


def test_windows_without_empty_turns(reference: Callable[[str], Reference], put: Callable[..., None]) -> None:
    arrays = reference("icon")
    given, batch = arrays.under("param/"), dialogues(arrays)
    hops = arrays.options(hops=3)["hops"]
    parameters = {"recall.ask.weight": given["W_q"].T, "recall.ask.bias": given["b_q"], "classify.weight": given["W_o"].T}
    parameters |= {"classify.bias": given["b_o"]}
    for part, names in {"local": ("local_own", "local_other"), "whole": ("global",), "rewrite": ("memory",)}.items():
        parameters |= {f"recall.{part}.{name}": value for name, value in cells(given, *names).items()}
    assert windows(arrays)
    for window in windows(arrays):
        model = build(ICON, {"text": len(given["W_q"])}, len(given["b_o"]), ICONConfig(width=len(given["b_q"]), hops=hops, window=window))
        put(model, parameters)
        prefix = f"K{window}/clean"
        check(arrays, prefix, model, batch, window, sides=1).backward()
        if f"{prefix}/numgrad/W_q" in arrays:
            memory, difference = model.recall.rewrite, arrays.under(f"{prefix}/numgrad/")  # central differences
            found = torch.cat([memory.inputs.grad[0][:, -memory.width :], memory.new.grad[0]])
            torch.testing.assert_close(model.recall.ask.weight.grad.T, difference["W_q"], rtol=0, atol=1e-7)
            torch.testing.assert_close(found, difference["memory.Wc"], rtol=0, atol=1e-7)


@pytest.mark.parametrize("window", [None, 2])
def test_a_turn_hears_the_turns_of_its_window_as_if_they_were_all(window: int | None) -> None:
    """A turn's state is that of a dialogue of only what it hears, absent turns left out, and it."""
    model = build(ICON, {"text": 3}, 4, ICONConfig(width=4, hops=3, window=window))
    with torch.no_grad():
        stir(model)
    batch = random_batch(SPEAKERS, {"text": 3}, classes=4)
    states, whole = model(batch).states, build(ICON, {"text": 3}, 4, ICONConfig(width=4, hops=3, window=None))
    whole.load_state_dict(model.state_dict())
    for row in range(batch.utterances):
        turn = int(batch.turn[row])
        heard = [k for k in range(row - min(turn, turn if window is None else window), row) if batch.present["text"][k]]
        rows = torch.tensor([*heard, row])
        one = batch._take(rows, rows, torch.tensor([0, len(rows)]), (len(rows),))
        torch.testing.assert_close(whole(one).states[-1], states[row], rtol=0, atol=1e-10)
