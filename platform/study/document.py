"""Studies as YAML: what `trainers.plain_yaml` reads, with its mistakes as a `StudyError`."""

from __future__ import annotations

from typing import Any

from crossover.platform.study.errors import StudyError
from crossover.trainers.plain_yaml import YamlError, write_yaml
from crossover.trainers.plain_yaml import parse_yaml as parse_plain_yaml

__all__ = ["parse_yaml", "write_yaml"]


def parse_yaml(text: str | bytes, what: str) -> Any:
    """The plain value of a YAML document.

    Args:
        text: The document; bytes must be UTF-8.
        what: Its name, for messages.

    Raises:
        StudyError: it is no YAML, or passes a limit; with the line.
    """
    try:
        return parse_plain_yaml(text)
    except YamlError as error:
        raise StudyError(what, str(error)) from None
