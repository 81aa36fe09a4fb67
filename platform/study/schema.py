"""The JSON Schema of a study, from which editors complete and check YAML.

`python -m crossover.platform.study.schema` writes `search_spaces/studies/study.schema.json`; a test compares it.
"""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

from crossover.platform.study.model import Study
from crossover.platform.study.settings import LEAVES
from crossover.trainers.config import TrialConfig

__all__ = ["schema_path", "study_schema", "study_schema_text"]


def study_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a study; `fixed` and `axes` list every setting with description and unit."""
    schema = Study.model_json_schema(mode="validation")
    settings = _settings()
    free = {path: field for path, field in settings.items() if not path.startswith(("data.", "stopping."))}
    properties = schema["properties"]
    properties["fixed"] |= {"properties": free, "additionalProperties": False}
    axis = {"$ref": "#/$defs/Axis"}
    properties["axes"] |= {
        "properties": {path: {"description": f"{field['description']}", **axis} for path, field in settings.items()},
        "patternProperties": {"^[A-Za-z_][A-Za-z0-9_]*$": axis},
        "additionalProperties": False,
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def schema_path() -> Path:
    """Where the committed schema lies, beside the studies."""
    return Path(str(resources.files("crossover.search_spaces.studies").joinpath("study.schema.json")))


def study_schema_text() -> str:
    """The schema as its file holds it."""
    return json.dumps(study_schema(), indent=2, ensure_ascii=False) + "\n"


def _settings() -> dict[str, dict[str, Any]]:
    definitions = TrialConfig.model_json_schema(mode="validation")
    found = {}
    for path in LEAVES:
        here = definitions
        for part in path.split("."):
            here = here["properties"][part]
            if "$ref" in here:
                here = definitions["$defs"][here["$ref"].rpartition("/")[2]]
        found[path] = here
    return found


if __name__ == "__main__":
    schema_path().write_text(study_schema_text(), encoding="utf-8")
