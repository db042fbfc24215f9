"""Speed of the provider beside its peers, and its distance to the floor: ``python -m benchmarks``."""
