"""Bytes to values and back: events, JSON, headers, errors, token counts; no I/O."""
