from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from execution_examples import evaluation, suggested
from rich.console import Console

from crossover.platform.execution.decisions import (
    AttemptStarted,
    CohortDrawn,
    Decision,
    DecisionLog,
    LegEnded,
    LegStarted,
    RungDecided,
    StopRequested,
    TrialClosed,
    TrialDecided,
)
from crossover.platform.execution.display import StudyDisplay, duration, render
from crossover.platform.execution.results import RecordResults
from crossover.platform.execution.status import print_status
from crossover.platform.execution.study_folder import study_folder
from crossover.platform.execution.view import StudyView
from crossover.trainers.errors import CrossoverError
from crossover.trainers.record import RecordPaths
from crossover.trainers.record_writer import RecordWriter
from crossover.trainers.rows import TrialEnd
from crossover.trainers.run import Progress

MakeStudy = Callable[..., Any]
ATTEMPT = AttemptStarted(pid=1, host="h", versions={}, resumed=False)


def shown(view: StudyView) -> str:
    console = Console(file=io.StringIO(), width=150)
    console.print(render(view))
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_page_says_what_is_planned_running_and_best(tiny_study: MakeStudy) -> None:
    view = StudyView.of(tiny_study(search__trials=3, search__repeats=2, search__final_repeats=4))
    assert view.strata["objective=autoregressive"].num_planned == 3 * 2 + 2
    trial = view.made(suggested("a", number=1))
    trial.state = "running"
    trial.take_progress(Progress("a", 5, 10, 2.5, 1234.0, "validating"))
    trial.take_row(evaluation(5, 1.0, 1.0).model_dump())
    trial.take_row(evaluation(6, 1.2, 1.0).model_dump())
    view.say("something happened [sic]")
    page = shown(view)
    for expected in (
        "objective=autoregressive",
        "autoregressive #1",
        "50%",
        "1,234",
        "2.4000",
        "2.0000 ± 0.0100",
        "validating",
        "[sic]",
    ):
        assert expected in page
    assert view.fraction == pytest.approx(0.5 / 16)


@pytest.mark.parametrize(("width", "height"), [(80, 24), (100, 30), (200, 60)])
def test_page_fits_the_terminal_and_keeps_its_numbers(tiny_study: MakeStudy, width: int, height: int) -> None:
    axis = {"grid": [2**power for power in range(8, 11)], "role": "scientific"}
    view = StudyView.of(tiny_study(axes__data__unique_tokens=axis, search__trials=20))
    for number in range(16):
        label = list(view.strata)[number % 2]
        trial = view.made(suggested(str(number), number=number, stratum_label=label))
        trial.state = "running"
        trial.take_row(evaluation(1, 1.2345, 1.2345).model_dump())
        view.say("words " * 60)
    console = Console(file=io.StringIO(), width=width, height=height)
    console.print(render(view, console.size))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    assert sum("2.4690 ± 0.0100" in line for line in lines) == 2
    assert any("more" in line for line in lines)


def halved_view(tiny_study: MakeStudy) -> StudyView:
    """200 trials in two strata, in cohorts of 25 of which all but the newest are over."""
    view = StudyView.of(tiny_study(search__trials=100))
    for label in view.strata:
        for cohort in range(4):
            numbers = range(25 * cohort, 25 * cohort + 25)
            for number in numbers:
                view.made(suggested(f"{label}/{number}", number=number, stratum_label=label))
            view.drawn(CohortDrawn(stratum_label=label, number=cohort, first=25 * cohort, size=25))
            for rung, place in ((0, 9), (1, 3)):
                decided = [
                    TrialDecided(
                        trial_id=f"{label}/{number}",
                        rung=rung,
                        action="promote" if number - numbers[0] < place else "pause",
                        reason=f"rung {rung + 1} (epoch 5): {place} of 25 configurations go on; place {number + 1}",
                    )
                    for number in numbers[: 25 if rung == 0 else 9]
                ]
                for one in decided:
                    view.leg_started(one.trial_id)
                    view.trial(one.trial_id).take_row(evaluation(1, 1.2345, 1.2345).model_dump())
                    view.trial(one.trial_id).state = "paused"
                view.decided(RungDecided(stratum_label=label, cohort=cohort, decisions=tuple(decided)))
            for number in numbers if cohort < 3 else ():
                reason = "completed" if number < numbers[0] + 3 else "pruned"
                view.closed(TrialClosed(trial_id=f"{label}/{number}", reason=reason, evidence="x"))
        view.leg_started(f"{label}/75")
    return view


def test_page_of_200_trials_says_where_cohorts_rungs_and_trials_stand(tiny_study: MakeStudy) -> None:
    view = halved_view(tiny_study)
    for width, height in ((80, 24), (120, 40)):
        console = Console(file=io.StringIO(), width=width, height=height)
        console.print(render(view, console.size))
        lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
        assert len(lines) <= height and max(map(len, lines)) <= width
        assert sum("2.4690 ± 0.0100" in line for line in lines) == 2
    page = "\n".join(lines)
    assert page.count("25 > 9 > 3") == 2
    assert "132 pruned, 18 completed" in page
    assert "4 promoted, waiting for a worker" in page
    assert "rung 2 of objective=masked_diffusion, cohort 4: 3 go on, 6 wait" in page
    row = next(line for line in lines if line.startswith("objective=autoregressive")).split()
    assert row[1:7] == ["75", "1", "24", "0", "100", "4"], "done, runs, wait, failed, of, cohort"


def test_trial_says_whether_it_waits_at_a_rung_or_to_go_on(tiny_study: MakeStudy) -> None:
    view = halved_view(tiny_study)
    promoted, running, held = (view.trial(f"objective=autoregressive/{n}") for n in (76, 75, 99))
    assert (promoted.standing, running.standing, held.standing) == ("promoted", "running past 2", "paused")
    assert held.why == "rung 1 (epoch 5): 9 of 25 configurations go on; place 100"


def test_loss_that_is_not_finite_is_never_the_best(tiny_study: MakeStudy) -> None:
    trial = StudyView.of(tiny_study()).made(suggested("a"))
    trial.take_row(evaluation(1, math.nan, math.nan).model_dump())
    assert trial.best is None
    trial.take_row(evaluation(2, 1.0, 1.0).model_dump())
    trial.take_row(evaluation(3, math.inf, 1.0).model_dump())
    assert trial.best == 2.0


def test_plain_output_has_one_line_an_event_and_repeats_none(tiny_study: MakeStudy) -> None:
    view = StudyView.of(tiny_study())
    console = Console(file=io.StringIO(), width=40)
    display = StudyDisplay(view, console, interval_seconds=0.0)
    display.start()
    view.say("first " + "long " * 30)
    display.update()
    view.say("second")
    display.update()
    display.update()
    display.stop()
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert [line.split()[2] for line in lines] == ["first", "second"]


def test_evaluations_are_said_now_and_then_and_are_no_events_on_the_page(
    tiny_study: MakeStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(1000, 2000, 4))
    monkeypatch.setattr("crossover.platform.execution.view.time.time", lambda: float(next(clock)))
    view = StudyView.of(tiny_study())
    console = Console(file=io.StringIO(), width=80)
    display = StudyDisplay(view, console, interval_seconds=0.0)
    display.start()
    for number in range(6):
        view.say(f"evaluation {number}", detail=True)
    view.say("ended")
    display.stop()
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert [line.split(maxsplit=2)[2] for line in lines] == ["evaluation 0", "evaluation 3", "ended"]
    page = shown(view)
    assert "ended" in page
    assert "evaluation" not in page


def test_trials_names_keep_what_a_number_means(tiny_study: MakeStudy) -> None:
    view = StudyView.of(tiny_study())
    label = "recipe=tuned objective=masked_diffusion unique_tokens=8192 size=400k tie=true"
    trial = view.made(suggested("a", number=2, repeat=1, stratum_label=label))
    assert trial.name == "tuned masked_diffusion unique_tokens=8192 size=400k tie=true #2 seed 1"


def test_reason_is_one_short_line_with_its_numbers(tiny_study: MakeStudy) -> None:
    trial = StudyView.of(tiny_study()).made(suggested("a"))
    assert trial.why == ""
    trial.take_row(evaluation(3, 1.0, 1.0).model_dump())
    trial.take_row(evaluation(6, 1.25, 1.0, rise_over_best=0.25, rise_over_best_se=0.035).model_dump())
    trial.take_end(TrialEnd(stop_reason="overfit", stop_evidence="at epoch 6 the validation loss " * 9))
    assert trial.why == "overfit: +0.250 ± 0.035 nats over the best at epoch 3"
    trial.take_end(TrialEnd(stop_reason="failed", stop_evidence="boom (of many)\nmore lines"))
    assert trial.why == "failed: boom"


def test_display_that_breaks_does_not_disturb_the_study(
    tiny_study: MakeStudy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    view = StudyView.of(tiny_study())
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    display = StudyDisplay(view, console, interval_seconds=0.0)
    display.start()
    monkeypatch.setattr("crossover.platform.execution.display.render", lambda view: 1 / 0)
    display.update()
    display.update()
    display.stop()
    assert caplog.text.count("the display is off") == 1


def test_terminal_shows_a_live_page(tiny_study: MakeStudy) -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    display = StudyDisplay(StudyView.of(tiny_study()), console)
    display.start()
    display.stop()
    assert "objective=masked_diffusion" in console.file.getvalue()  # type: ignore[attr-defined]


def a_killed_study(study: Any, storage: Path) -> Path:
    folder = study_folder(study, storage)
    folder.freeze(study, "0" * 64)
    log = DecisionLog(folder.path)
    lines: list[Decision] = [
        ATTEMPT,
        suggested("ended"),
        suggested("killed", number=1),
        suggested("waits", number=2),
        LegStarted(trial_id="ended", leg=1),
        LegStarted(trial_id="killed", leg=1),
        LegEnded(trial_id="ended", leg=1, status="failed", error="boom"),
    ]
    for line in lines:
        log.append(line)
    log.close()
    RecordResults(folder.path).close("ended", "failed", "boom")
    writer = RecordWriter(RecordPaths(folder.path / "trials" / "killed"))
    writer.paths.root.mkdir(parents=True)
    writer.commit([evaluation(1, 1.0, 1.0)], None)
    return folder.path


def test_status_of_a_killed_study_is_read_from_its_files(tiny_study: MakeStudy, tmp_path: Path) -> None:
    study_dir = a_killed_study(tiny_study(search__trials=3), tmp_path)
    console = Console(file=io.StringIO())
    print_status(study_dir, console)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    states = {line.split()[0]: line for line in lines if line.split()[:1] in (["ended"], ["killed"], ["waits"])}
    assert " failed " in states["ended"]
    assert "failed: boom" in states["ended"]
    assert " paused " in states["killed"]
    assert "2.0000" in states["killed"]
    assert " waiting " in states["waits"]
    assert "not running: the same `crossover run` goes on" in lines[-1]


def test_attempt_that_goes_on_no_longer_says_why_the_last_one_stopped(tiny_study: MakeStudy, tmp_path: Path) -> None:
    view = StudyView.of(tiny_study())
    lines: list[Decision] = [ATTEMPT, StopRequested(trial_id=None, reason="interrupted", evidence="by the user")]
    view.replay(lines, tmp_path, driver_alive=False)
    assert "by the user" in shown(view)
    view.begin_attempt()
    assert "by the user" not in shown(view)


@pytest.mark.parametrize("width", [80, 120, 140])
def test_status_fits_the_terminal_and_shows_what_it_has_room_for(
    tiny_study: MakeStudy, tmp_path: Path, width: int
) -> None:
    study_dir = a_killed_study(tiny_study(search__trials=3), tmp_path)
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    print_status(study_dir, console)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert max(map(len, lines)) <= width
    (failed,) = [line for line in lines if " failed " in line and "autoregressive #0" in line]
    assert ("failed: boom" in failed) == (width >= 120)
    assert failed.startswith("ended") == (width >= 140)


def test_status_of_no_study_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(CrossoverError, match=r"no study's folder"):
        print_status(tmp_path)


@pytest.mark.parametrize(
    ("seconds", "text"), [(5, "5 s"), (89, "89 s"), (600, "10 min"), (3 * 3600 + 300, "3 h 05 min")]
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text
