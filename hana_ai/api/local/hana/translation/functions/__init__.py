"""HANA's functions: how each is typed and written in DuckDB SQL."""
