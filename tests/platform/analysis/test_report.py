from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from synthetic_study import AR, SyntheticStudy

from crossover.platform.analysis import answer, load_study, write_report
from crossover.platform.analysis.recommendation import plan_of_study
from crossover.trainers.errors import CrossoverError

pytestmark = pytest.mark.integration

NASTY = "<script>alert(1)</script> & \"'{{ 7 * 7 }}</style>"


class Page(HTMLParser):
    """Elements with what they refer to, and text outside scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.references: list[str] = []
        self.words = ""
        self._raw = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._raw = tag in ("script", "style")
        self.references += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]

    def handle_endtag(self, tag: str) -> None:
        self._raw = False

    def handle_data(self, data: str) -> None:
        if not self._raw:
            self.words += data


@pytest.fixture(scope="module")
def report(study_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("report") / "synthetic"
    shutil.copytree(study_folder, copy)
    return write_report(copy)


def test_the_page_answers_before_anything_else(report: Path) -> None:
    page = Page(report.read_text())
    places = [page.words.index(words) for words in ("Who is ahead on test?", "Where the curves cross", "The trials,")]
    assert places == sorted(places)
    for pair in answer(load_study(report.parent)).pairs:
        assert pair.test_words is not None and pair.test_words in page.words
        assert all(words in page.words for words in (*pair.crossing_words, *pair.best_words))


def test_the_page_recommends_what_the_plan_of_the_study_says(report: Path) -> None:
    words = Page(report.read_text()).words
    plan = plan_of_study(load_study(report.parent))
    assert plan.runner_up is not None
    for choice in (plan.best, plan.runner_up):
        assert f"{choice.loss:.4f} [{choice.low:.4f}, {choice.high:.4f}]" in words
    assert plan.decided_by in words
    assert all(change in words for change in plan.changes)
    assert words.index("Who is ahead on test?") < words.index("What to train") < words.index("Where the curves cross")


def test_where_nothing_can_be_recommended_the_page_says_why(tmp_path: Path) -> None:
    folder = SyntheticStudy(num_seeds=1, num_documents=5, recipes=("shared",)).write(tmp_path / "s")
    shutil.rmtree(folder / "trials")
    words = Page(write_report(folder).read_text()).words
    assert "Nothing can be recommended" in words
    assert "no trial has a finite evaluation yet" in words


def test_the_page_is_one_file_that_asks_nobody(report: Path) -> None:
    page = Page(report.read_text())
    assert set(page.references) == {"data:,", "#reading"}
    assert not {"img", "iframe", "object", "embed", "base"} & set(page.tags)
    style = re.search(r"<style>(.*?)</style>", report.read_text(), re.S)
    assert style is not None and "url(" not in style[1] and "@import" not in style[1]
    assert report.stat().st_size < 10e6


def test_every_trial_is_there_with_its_reason_and_settings(report: Path) -> None:
    page = Page(report.read_text())
    for row in load_study(report.parent).trials.to_pylist():
        assert page.words.count(row["trial_id"]) == 2
        assert row["stop_reason"] == "completed" or row["stop_evidence"] in page.words
    assert "d" * 64 in page.words and "0" * 40 in page.words and "torch 2.13.0" in page.words


def test_the_same_record_gives_the_same_page(report: Path) -> None:
    before = report.read_bytes()
    assert write_report(report.parent).read_bytes() == before


def test_what_the_user_wrote_is_text_and_never_markup(tmp_path: Path) -> None:
    study = SyntheticStudy(num_seeds=1, num_documents=5, recipes=("shared",), description=NASTY)
    folder = study.write(tmp_path / "s")
    for end in folder.glob("trials/*/end.json"):
        end.write_text(end.read_text().replace("after", "</table><script>alert(2)</script> after"))
    for facts in folder.glob("trials/*/trial.json"):
        facts.write_text(facts.read_text().replace("python-stdlib", "<img src=x onerror=alert(3)>"))
    text = write_report(folder).read_text()
    page = Page(text)
    assert "img" not in page.tags and page.tags.count("script") == Page(text).tags.count("script")
    assert NASTY in page.words and "49" not in page.words.split(NASTY)[0]
    assert "<script>alert" not in text


@pytest.mark.parametrize(
    "study",
    [
        SyntheticStudy(num_seeds=1, num_documents=5, recipes=("shared",), objectives=(AR,)),
        SyntheticStudy(num_seeds=2, num_documents=5, recipes=("shared",), diverged_repeat=0),
        SyntheticStudy(num_seeds=1, num_documents=5, num_tuned=2, finished=False, test_scored=False),
    ],
    ids=["one objective", "diverged", "unfinished"],
)
def test_a_page_is_written_for_whatever_there_is(tmp_path: Path, study: SyntheticStudy) -> None:
    text = write_report(study.write(tmp_path / "s")).read_text()
    found = answer(load_study(tmp_path / "s"))
    words = Page(text).words
    assert all(note in words for note in (*found.notes, *(n for pair in found.pairs for n in pair.notes)))
    assert "NaN" not in re.sub(r"<script>.*?</script>", "", text, flags=re.S)
    assert "None" not in words and "nan" not in words.split()


def test_a_page_is_written_before_the_first_evaluation(tmp_path: Path) -> None:
    folder = SyntheticStudy(num_seeds=1, num_documents=5, recipes=("shared",)).write(tmp_path / "s")
    shutil.rmtree(folder / "trials")
    words = Page(write_report(folder).read_text()).words
    assert "nothing evaluated yet" in words


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    folder = SyntheticStudy(num_seeds=1, num_documents=5, recipes=("shared",), objectives=(AR,)).write(tmp_path / "s")
    (folder / "figures").write_text("a file where a folder should be")
    with pytest.raises(CrossoverError, match="figures"):
        write_report(folder)


def dump(browser: str, page: Path, profile: Path) -> subprocess.CompletedProcess[str]:
    """What the browser made of a page, and what it said on its console."""
    command = [
        *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
        *(f"--user-data-dir={profile}", "--enable-logging=stderr", "--virtual-time-budget=4000"),
        *("--host-resolver-rules=MAP * ~NOTFOUND", "--window-size=1400,3000", "--dump-dom", page.as_uri()),
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


@pytest.mark.slow
@pytest.mark.browser
def test_the_page_draws_its_figures_without_errors_or_requests(report: Path, browser: str, tmp_path: Path) -> None:
    done = dump(browser, report, tmp_path / "profile")
    assert "CONSOLE" not in done.stderr
    assert done.stdout.count('class="main-svg"') >= 6
    assert "MDM below AR" in done.stdout


@pytest.mark.slow
@pytest.mark.browser
def test_figures_are_printed_in_the_width_of_paper(report: Path, browser: str, tmp_path: Path) -> None:
    """Those of the screen's width would lie over one another."""
    printing = "<script>window.dispatchEvent(new Event('beforeprint'))</script></body>"
    page = tmp_path / "printed.html"
    page.write_text(report.read_text().replace("</body>", printing))
    done = dump(browser, page, tmp_path / "profile")
    widths = set(re.findall(r'<svg class="main-svg"[^>]*? width="(\d+)"', done.stdout))
    assert widths == {"565", "1140"}
    assert "CONSOLE" not in done.stderr
