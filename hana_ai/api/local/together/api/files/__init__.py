"""Together's files: uploaded by redirect or in one form, checked, listed, read and deleted.

Shapes are those of the SDK's types (together 3.1, `types/file_response.py`) together with what Together's OpenAPI
document requires beyond them; the steps of an upload are those of its `lib/resources/files.py`.
"""

from .handlers import file_routes
from .store import DataFile, FileDials, FileStore

__all__ = ["DataFile", "FileDials", "FileStore", "file_routes"]
