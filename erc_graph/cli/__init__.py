"""The command erc-graph: arguments in, exit code out."""
