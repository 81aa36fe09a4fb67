"""Arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crossover.trainers.places import is_uri

__all__ = ["Overrides", "StudyFolder", "command_group", "study_or_file", "trial_folder"]

Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one setting; may be repeated.")
]
StudyFolder = Annotated[
    str,
    typer.Argument(metavar="DIR", help="A study's folder, such as runs/quickstart, or s3://bucket/runs/quickstart."),
]


def study_or_file(text: str) -> Path:
    """A path as it is; the URI of a study as this machine's copy of it."""
    if not is_uri(text):
        return Path(text)
    from crossover.platform.storage.views import local_study

    return local_study(text)


def trial_folder(text: str) -> Path:
    """A path as it is; the URI of a trial as this machine's copy of its record."""
    if not is_uri(text):
        return Path(text)
    from crossover.platform.storage.views import local_trial

    return local_trial(text)


def command_group(help_text: str | None = None) -> typer.Typer:
    """A group of commands: under a name where it is added with one, else beside the others."""
    return typer.Typer(
        help=help_text,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
