"""The command hana-ai-together."""


def main() -> None:
    """Run the command line."""
