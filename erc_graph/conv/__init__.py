"""Message passing: the contract of an operator, and one operator per file."""
