"""Together's management API: account, endpoints, deployments, adapters, models, uploads and billing.

Shapes are those of the SDK's types (together 3.1, `types/`), so that its resources and its command line `tg` can
drive it. Times and failures are dialled through `Management`.
"""

from .api import management_routes
from .records import Dials, RegisteredModel
from .serving import Measurement, Measuring
from .state import STORAGE_PATH, Management

__all__ = [
    "STORAGE_PATH",
    "Dials",
    "Management",
    "Measurement",
    "Measuring",
    "RegisteredModel",
    "management_routes",
]
