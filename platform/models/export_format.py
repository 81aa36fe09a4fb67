"""`export_checkpoint`, and the registry of formats: one file each."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from crossover.trainers.config import ExecutionConfig
from crossover.trainers.durable import temporary, writing
from crossover.trainers.errors import CrossoverError
from crossover.trainers.trained import TrainedModel, open_model

__all__ = ["ExportError", "export_checkpoint", "register_format"]

Write = Callable[[TrainedModel, Path], None]
_FORMATS: dict[str, Write] = {}


class ExportError(CrossoverError):
    """A model that a format cannot hold, or a place where it cannot be written."""


def register_format(name: str) -> Callable[[Write], Write]:
    """Makes a writer known as `--format name`; it gets a model and an empty folder."""

    def register(write: Write) -> Write:
        _FORMATS[name] = write
        return write

    return register


def export_checkpoint(path: Path, output: Path, format_name: str) -> TrainedModel:
    """Writes a trained model in another format; the folder is whole or absent.

    Args:
        path: folder of a trial or run.
        output: folder to make.
        format_name: of a registered format.

    Returns:
        What was exported.

    Raises:
        ExportError: there is no such format, it cannot hold the model, or the folder is there already.
        RecordError: there is no model.
    """
    from crossover.platform.models import huggingface  # noqa: F401 - enters its format

    if format_name not in _FORMATS:
        raise ExportError(f"--format is {format_name}, and the formats are {', '.join(sorted(_FORMATS))}")
    if output.exists():
        raise ExportError(f"output {output} is there already: name another folder, or remove it")
    trained = open_model(path, ExecutionConfig(device="cpu", precision="float32", compile="off"))
    with writing(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        place = temporary(output)
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        try:
            _FORMATS[format_name](trained, place)
            place.rename(output)
        finally:
            shutil.rmtree(place, ignore_errors=True)
    return trained
