"""What other packages say, or cannot do, on a Python that they are not quite ready for."""

from __future__ import annotations

WARNINGS_OF_3_14 = (
    "ignore:Core Pydantic V1 functionality:UserWarning",  # langchain-core
    "ignore:'asyncio.iscoroutinefunction' is deprecated:DeprecationWarning",  # langsmith
)
"""As PYTHONWARNINGS and ``-W`` take them."""

IGNORED = tuple(part for warning in WARNINGS_OF_3_14 for part in ("-W", warning))
"""Arguments of an interpreter."""
