"""Serving a trained model over HTTP: bounded, on one machine, shared by threads; `erc-graph serve` starts it."""
