"""Message passing: the base class of graph operators, and one operator per file."""
