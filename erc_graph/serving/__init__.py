"""A trained model behind HTTP: bounded, on one machine, shared by threads; `erc-graph serve` starts it."""
