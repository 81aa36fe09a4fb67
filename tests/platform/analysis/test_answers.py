from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from scipy import stats
from synthetic_study import AR, BYTES, MDM, SyntheticStudy, ar_shared, mdm_shared, true_crossing

from crossover.platform.analysis import Answer, answer, load_study, print_answer
from crossover.platform.analysis.comparisons import Mean
from crossover.platform.analysis.selection import pairs_of_strata
from crossover.platform.analysis.wording import ahead_sentence


def small(**settings: Any) -> SyntheticStudy:
    return SyntheticStudy(**{"recipes": ("shared",), "num_documents": 30, **settings})


def answered(study: SyntheticStudy, tmp_path: Path) -> Answer:
    return answer(load_study(study.write(tmp_path / "study")))


@pytest.fixture(scope="module")
def found(study_folder: Path) -> Answer:
    return answer(load_study(study_folder))


def test_each_pair_of_strata_that_differ_in_the_objective_is_answered(found: Answer) -> None:
    assert [pair.title for pair in found.pairs] == ["Same recipe for both", "Each tuned by itself"]
    assert [pair.setting for pair in found.pairs] == [{"recipe": "shared"}, {"recipe": "tuned"}]
    assert found.finished and found.usable and found.notes == ()


def test_the_crossing_of_the_shared_recipe_is_found(found: Answer) -> None:
    shared = found.pairs[0]
    assert shared.envelope is not None and shared.equal_epochs is not None
    truth = true_crossing(ar_shared, mdm_shared, 200, envelope=True)
    low, high = shared.envelope.epochs.low, shared.envelope.epochs.high
    assert truth is not None and low is not None and high is not None and low < truth < high
    assert shared.equal_epochs.carried_forward
    assert "at the latest" in shared.crossing_words[0] and "carried forward" in shared.crossing_words[0]


@pytest.mark.parametrize("what", [".", "end.json"])
def test_a_record_that_was_removed_after_its_trial_ended_is_missed(what: str, tmp_path: Path) -> None:
    folder = small().write(tmp_path / "study")
    trial_id = next(iter(load_study(folder).files))
    gone = folder / "trials" / trial_id / what
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    found = answer(load_study(folder))
    (note,) = found.notes
    assert note.startswith(
        f"1 trial that ended has no record any more, and what follows is without it: trials/{trial_id}."
    )
    console = Console(file=io.StringIO(), width=300)
    print_answer(found, console)
    assert note in console.file.getvalue()  # type: ignore[attr-defined]


def test_nowhere_yet_says_what_was_in_range(found: Answer) -> None:
    (words,) = found.pairs[1].crossing_words
    assert "nowhere yet" in words and "the 200 epochs" in words


def test_who_is_ahead_follows_the_truth_in_both_recipes(found: Answer) -> None:
    shared, tuned = found.pairs
    assert shared.test is not None and tuned.test is not None
    assert shared.test_words is not None and shared.test_words.startswith("MDM ahead by 0.1")
    assert "at least as large" in shared.test_words
    assert tuned.test_words is not None and tuned.test_words.startswith("AR ahead by 0.3")
    assert "may be smaller" in tuned.test_words


def test_each_seeds_difference_is_the_plain_mean_over_its_test_windows(study_folder: Path, found: Answer) -> None:
    records = load_study(study_folder).records
    for seed in found.pairs[0].seeds:
        nats = [records[i].test_window_nats() for i in (seed.challenger_id, seed.baseline_id)]
        assert nats[0] is not None and nats[1] is not None
        bits_W = (nats[0].astype(float) - nats[1]) / BYTES / np.log(2)
        assert seed.difference == pytest.approx(bits_W.mean())
        per_document = bits_W.reshape(-1, 4).mean(axis=1)
        assert seed.difference_se == pytest.approx(stats.sem(per_document))


def test_the_configuration_is_chosen_on_validation_among_those_with_most_seeds(found: Answer) -> None:
    tuned = found.pairs[1]
    for best in (tuned.baseline, tuned.challenger):
        assert best is not None
        assert best.num_configurations == 3 and len(best.trial_ids) == 3
        assert best.settings["optimizer.learning_rate"] == pytest.approx(2.1e-3)
        assert best.validation == pytest.approx(np.mean(validations(tuned, best.objective)))


def validations(pair: Any, objective: str) -> list[float]:
    name = "baseline_validation" if objective == AR else "challenger_validation"
    return [getattr(seed, name) for seed in pair.seeds]


def test_a_lucky_configuration_with_one_seed_does_not_win(tmp_path: Path) -> None:
    folder = SyntheticStudy(num_documents=10, num_seeds=2, num_tuned=2, recipes=("shared", "tuned")).write(
        tmp_path / "s"
    )
    tables = load_study(folder)
    once = [t for t in tables.files.values() if t.suggestion.made.number == 1]
    for trial in once:
        _shift_validation(trial.record.path, -1.0)
    (_, tuned) = pairs_of_strata(load_study(folder))
    for stratum in tuned[1].values():
        assert stratum.chosen is not None and len(stratum.chosen.trials) == 2


def _shift_validation(root: Path, by: float) -> None:
    from crossover.trainers.durable import digest_of
    from crossover.trainers.record import Commit, RecordPaths, TrialRecord, evaluations_to_bytes

    paths = RecordPaths(root)
    rows = [
        row.model_copy(update={"val_bits_per_byte": row.val_bits_per_byte + by})
        for row in TrialRecord(root).evaluations()
    ]
    folder = paths.commit(0)
    (folder / "evaluations.arrow").write_bytes(evaluations_to_bytes(rows))
    commit = Commit.from_bytes((folder / "COMMIT.json").read_bytes())
    changed = commit.model_copy(update={"files": {"evaluations.arrow": digest_of(folder / "evaluations.arrow")}})
    (folder / "COMMIT.json").write_bytes(changed.to_bytes())


def test_the_test_split_has_no_say_in_the_choice(tmp_path: Path) -> None:
    folder = SyntheticStudy(num_documents=10, num_seeds=1, num_tuned=3).write(tmp_path / "s")
    before = [
        s.chosen.config_hash for _, strata in pairs_of_strata(load_study(folder)) for s in strata.values() if s.chosen
    ]
    for path in folder.glob("trials/*/windows/test.npy"):
        np.save(path, np.random.default_rng(0).normal(100, 50, np.load(path).shape).astype(np.float32))
    after = [
        s.chosen.config_hash for _, strata in pairs_of_strata(load_study(folder)) for s in strata.values() if s.chosen
    ]
    assert before == after and len(before) == 4


def test_one_seed_says_that_it_says_nothing_of_others(tmp_path: Path) -> None:
    pair = answered(small(num_seeds=1), tmp_path).pairs[0]
    assert pair.test is not None and pair.test.num_seeds == 1
    assert pair.test_words is not None and "one seed: says nothing of other data and initialisations" in pair.test_words


def test_without_test_scores_the_crossing_is_still_answered(tmp_path: Path) -> None:
    pair = answered(small(num_seeds=2, test_scored=False), tmp_path).pairs[0]
    assert pair.test is None and pair.test_words is None and pair.envelope is not None
    assert any("no score on test" in note for note in pair.notes)
    assert all("not scored on test yet" in words for words in pair.best_words)


def test_a_diverged_seed_keeps_what_was_finite_and_is_left_out_of_test(tmp_path: Path) -> None:
    pair = answered(small(num_seeds=3, diverged_repeat=1), tmp_path).pairs[0]
    assert pair.test is not None and pair.test.num_seeds == 2
    assert any("1 of 3 seeds left out" in note for note in pair.notes)
    assert pair.envelope is not None and pair.envelope.last_epoch < 200
    assert np.isfinite(pair.seeds[1].challenger_validation or np.nan)


def test_equal_objectives_have_no_winner(tmp_path: Path) -> None:
    curves = {("shared", AR): mdm_shared, ("shared", MDM): mdm_shared}
    pair = answered(small(num_seeds=4, curves=curves, ar_stops=False), tmp_path).pairs[0]
    assert pair.test is not None and not pair.test.decided
    assert pair.test_words is not None and "No difference on test that these data can show" in pair.test_words
    assert "ahead" not in pair.test_words


@pytest.mark.parametrize(("low", "high"), [(-0.1, 0.3), (0.0, 0.3), (-0.2, 0.0)])
def test_an_interval_that_holds_zero_names_nobody_ahead(low: float, high: float) -> None:
    mean = Mean(mean=(low + high) / 2, se=0.1, low=low, high=high, num_seeds=3, per_seed=(), per_seed_se=())
    assert "ahead" not in ahead_sentence(mean)


def test_one_objective_alone_has_a_best_and_no_comparison(tmp_path: Path) -> None:
    found = answered(small(num_seeds=1, objectives=(AR,)), tmp_path)
    (pair,) = found.pairs
    assert pair.baseline is not None and pair.challenger is None and not found.usable
    assert pair.equal_epochs is None and pair.envelope is None and pair.test is None
    assert any("nothing to compare with" in note for note in pair.notes)


def test_other_validation_windows_are_not_compared(tmp_path: Path) -> None:
    folder = small(num_seeds=1).write(tmp_path / "s")
    first = next(folder.glob("trials/*/windows/facts.npz"))
    arrays = dict(np.load(first))
    arrays["validation_document"] = arrays["validation_document"] + 1
    np.savez(first, **arrays)
    pair = answer(load_study(folder)).pairs[0]
    assert pair.envelope is None and pair.test is not None
    assert any("different validation windows" in note for note in pair.notes)


def test_an_unfinished_study_says_so(tmp_path: Path) -> None:
    found = answered(SyntheticStudy(num_documents=10, num_seeds=1, num_tuned=2, finished=False), tmp_path)
    assert not found.finished and "not finished" in found.notes[0] and "1 waiting" in found.notes[0]


def test_the_answer_goes_through_json(found: Answer) -> None:
    content = json.loads(found.to_json())
    assert content["pairs"][0]["test"]["mean"] == pytest.approx(found.pairs[0].test.mean)  # type: ignore[union-attr]
    assert content["pairs"][1]["envelope"]["epochs"]["estimate"] is None
    assert content["counts"] == {"done": 16}


def test_the_terminal_says_the_same_sentences(study_folder: Path, found: Answer) -> None:
    out = io.StringIO()
    print_answer(study_folder, Console(file=out, width=1_000))
    for pair in found.pairs:
        for words in (pair.title, pair.test_words, *pair.crossing_words, *pair.best_words):
            assert words is not None and words in out.getvalue()


@pytest.mark.parametrize(("scatter", "warned"), [(0.01, False), (2.0, True)])
def test_too_little_validation_for_the_claimed_difference_is_said(scatter: float, warned: bool, tmp_path: Path) -> None:
    (pair,) = answered(small(trial_document_sd=scatter, num_documents=12), tmp_path).pairs
    notes = [note for note in pair.notes if note.startswith("The validation split is too small")]
    assert len(notes) == warned
    if warned:
        assert "of 12 documents" in notes[0] and "evaluation.validation_windows" in notes[0]


def test_one_document_of_validation_tells_nothing(tmp_path: Path) -> None:
    (pair,) = answered(small(num_documents=1), tmp_path).pairs
    assert any("of 1 documents, tell nothing from chance" in note for note in pair.notes)
