"""Pictures and tables, drawn from what they are given."""
