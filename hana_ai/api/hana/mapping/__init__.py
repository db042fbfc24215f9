"""Asking a model about every row of a table or query, with the answers in a table of their own."""
