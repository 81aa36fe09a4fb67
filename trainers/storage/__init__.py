"""Records in object stores: a client that waits out trouble, and the copy of a trial's record that lies there."""

from crossover.trainers.storage.object_store import (
    ObjectStore,
    StorageError,
    StoredFile,
    is_storage_trouble,
    storage_error_in,
)
from crossover.trainers.storage.published_record import PublishedRecord

__all__ = [
    "ObjectStore",
    "PublishedRecord",
    "StorageError",
    "StoredFile",
    "is_storage_trouble",
    "storage_error_in",
]
