"""The command `erc-graph` and its subcommands."""
