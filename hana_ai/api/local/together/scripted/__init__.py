"""The engine that answers by script, and the faults it can put on the wire."""
