"""Serving of a trained model over HTTP on one machine, with several threads and limited resources. Started by `erc-graph serve`."""
