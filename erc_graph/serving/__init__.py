"""Serving of a trained model over HTTP on one machine, with several threads and limited resources. The command is `erc-graph serve`."""
