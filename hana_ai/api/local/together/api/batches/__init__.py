"""Together's batches: a file of requests is validated, answered by the engines, and joined by `custom_id`.

Shapes are those of Together's OpenAPI document and of the SDK (together 3.1, `types/batch_job.py`). What these
leave open, such as the words of an error or the lines of requests that a batch did not come to, is this server's
own.
"""

from .asking import Answer, InProcess
from .handlers import batch_routes
from .jobs import Batches
from .records import Batch, BatchDials

__all__ = ["Answer", "Batch", "BatchDials", "Batches", "InProcess", "batch_routes"]
