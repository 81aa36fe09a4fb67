from __future__ import annotations

import shutil
from pathlib import Path

from synthetic_study import AR, SyntheticStudy

from crossover.platform.analysis import write_figures


def test_figures_are_written_and_the_same_each_time(study_folder: Path, tmp_path: Path) -> None:
    copies = [tmp_path / name / "synthetic" for name in "ab"]
    for copy in copies:
        shutil.copytree(study_folder, copy)
    first, second = (write_figures(copy) for copy in copies)
    assert [path.name for path in first] == ["crossing.svg", "crossing.png"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert first[1].read_bytes().startswith(b"\x89PNG")


def test_a_study_with_one_objective_has_a_figure_without_a_crossing(tmp_path: Path) -> None:
    study = SyntheticStudy(num_seeds=1, num_documents=5, recipes=("shared",), objectives=(AR,))
    svg, _ = write_figures(study.write(tmp_path / "s"))
    assert svg.stat().st_size > 5_000


def test_nothing_evaluated_gives_no_figure(tmp_path: Path) -> None:
    study = SyntheticStudy(num_seeds=1, num_documents=5, recipes=("shared",), objectives=(AR,))
    folder = study.write(tmp_path / "s")
    shutil.rmtree(folder / "trials")
    assert write_figures(folder) == [] and not (folder / "figures").exists()
