"""The folder that `hana-ai-together run` puts on PYTHONPATH; see `sitecustomize`."""
