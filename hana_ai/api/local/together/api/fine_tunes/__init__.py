"""Together's fine-tuning: jobs that go through its states and leave an adapter that can be deployed.

Nothing is trained: a job reads its data, and its losses are made up. Shapes are those of Together's OpenAPI
document and of the SDK's types (together 3.1, `types/finetune_response.py`).
"""

from .handlers import fine_tune_routes
from .jobs import FineTunes
from .records import FineTune, FineTuneDials

__all__ = ["FineTune", "FineTuneDials", "FineTunes", "fine_tune_routes"]
