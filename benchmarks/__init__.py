"""Speed of the provider beside langchain-together's: ``python -m benchmarks``."""
