"""Arguments that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["Overrides", "StudyFolder", "command_group"]

Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one setting; may be repeated.")
]
StudyFolder = Annotated[
    str,
    typer.Argument(metavar="DIR", help="A study's folder, such as runs/quickstart, or s3://bucket/runs/quickstart."),
]


def command_group(help_text: str | None = None) -> typer.Typer:
    """A group of commands: under a name where it is added with one, else beside the others."""
    return typer.Typer(
        help=help_text,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
