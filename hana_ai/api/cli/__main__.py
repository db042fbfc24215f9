"""`python -m hana_ai.api.cli`: the command hana-ai-together."""

from . import main

main()
