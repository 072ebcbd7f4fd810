"""A learned vector in the place of what is missing."""

from __future__ import annotations

import torch

from erc_graph.encoders.missing import Missing


def test_a_missing_row_is_the_learned_vector_whatever_stands_there() -> None:
    missing = Missing({"text": 5, "audio": 3}).double()
    assert list(missing.names) == ["text", "audio"]  # in the order given
    with torch.no_grad():
        missing.vectors["text"].copy_(torch.arange(5))
    present = {"text": torch.arange(9) % 3 != 1, "audio": torch.arange(9) % 4 != 2, "visual": torch.zeros(9) > 0}
    values = {name: torch.randn(9, width, dtype=torch.float64) for name, width in (("text", 5), ("audio", 3), ("visual", 2))}
    values["text"][~present["text"]] = torch.nan
    found = missing(values, present)
    assert list(found) == ["text", "audio"]
    assert (found["text"][~present["text"]] == torch.arange(5)).all()
    assert torch.equal(found["text"][present["text"]], values["text"][present["text"]])
    assert torch.equal(found["audio"][present["audio"]], values["audio"][present["audio"]])
    found["text"].sum().backward()
    gradient = missing.vectors["text"].grad
    assert gradient is not None and gradient.tolist() == [float((~present["text"]).sum())] * 5
