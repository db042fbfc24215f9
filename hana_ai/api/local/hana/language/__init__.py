"""HANA's SQL read into a tree: tokens, statements and what is refused."""
