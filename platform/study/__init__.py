"""The study: one YAML document, read, checked whole before anything starts, and frozen where it runs."""

from crossover.platform.study.errors import StudyError
from crossover.platform.study.model import Study
from crossover.platform.study.overlays import builtin_overlays
from crossover.platform.study.reading import FrozenStudy, builtin_studies, read_frozen, read_study, study_of
from crossover.platform.study.schema import study_schema_text

__all__ = [
    "FrozenStudy",
    "Study",
    "StudyError",
    "builtin_overlays",
    "builtin_studies",
    "read_frozen",
    "read_study",
    "study_of",
    "study_schema_text",
]
