"""Findings for people, and for programs."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from crossover.platform.cluster.lint import Linted

__all__ = ["print_findings"]


def print_findings(linted: Linted, file: str, num_documents: int, *, as_json: bool) -> None:
    """Prints findings to the screen, and what could not be checked to standard error."""
    errors = len(linted.errors)
    warnings = len(linted.findings) - errors
    if as_json:
        found = [asdict(finding) for finding in linted.findings]
        answer = {"file": file, "errors": errors, "warnings": warnings, "findings": found, "notices": linted.notices}
        print(json.dumps(answer, indent=2))
        return
    for notice in linted.notices:
        sys.stderr.write(f"notice: {notice}\n")
    for finding in linted.findings:
        print(finding)
    documents = f"{num_documents} object{'s' * (num_documents != 1)}"
    print(f"{file}: {documents}, {_counted(errors, 'error')}, {_counted(warnings, 'warning')}")


def _counted(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'s' * (number != 1)}"
