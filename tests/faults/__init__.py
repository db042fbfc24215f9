"""Faults between client and server, over real sockets: every one ends in the right answer or the right error."""
