"""optuna-dashboard's own server over a study that runs, as a browser shows it."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.end_to_end,
    pytest.mark.skipif(
        importlib.util.find_spec("optuna_dashboard") is None, reason="needs optuna-dashboard (pip install it)"
    ),
]


@pytest.fixture
def study_dir(real_study: Path, tmp_path: Path) -> Path:
    return shutil.copytree(real_study, tmp_path / "crossover-cpu")


@pytest.fixture
def address(study_dir: Path) -> Iterator[str]:
    code = "import sys; from crossover.platform.cli import main; sys.argv[0] = 'crossover'; main()"
    command = [sys.executable, "-u", "-c", code, "dashboard", str(study_dir), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        lines = (re.search(r"http://127\.0\.0\.1:\d+", line) for line in server.stdout)
        yield next(match[0] for match in lines if match)
        server.send_signal(signal.SIGINT)
        assert server.wait(10) == 0


def fetched(address: str, path: str) -> Any:
    with urllib.request.urlopen(f"{address}/api/{path}", timeout=30) as answer:
        return json.load(answer)


def page_words(browser: str, url: str, profile: Path) -> str:
    command = [
        *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
        *(f"--user-data-dir={profile}", "--virtual-time-budget=8000", "--dump-dom", url),
    ]
    page = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", re.sub(r"<(style|script).*?</\1>", "", page, flags=re.DOTALL)))


def stop_the_clock(study_dir: Path) -> tuple[str, dict[Path, bytes]]:
    """Takes the study back to where its last leg had just started: the stratum, and what was taken away."""
    decisions = next((study_dir / "decisions").iterdir())
    lines = decisions.read_text().splitlines(keepends=True)
    last = max(number for number, line in enumerate(lines) if '"leg_started"' in line)
    trial_id = json.loads(lines[last])["trial_id"]
    suggested = next(line for line in map(json.loads, lines) if line.get("trial_id") == trial_id)
    end = study_dir / "trials" / trial_id / "end.json"
    taken = {path: path.read_bytes() for path in (decisions, end)}
    end.unlink()
    decisions.write_text("".join(lines[: last + 1]))
    return suggested["stratum_label"], taken


def test_running_study_is_shown_and_followed_to_its_end(
    study_dir: Path, browser: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    stratum, taken = stop_the_clock(study_dir)
    address = request.getfixturevalue("address")
    studies = {study["study_name"]: study["study_id"] for study in fetched(address, "studies")["study_summaries"]}
    number = studies[f"crossover-cpu: {stratum}"]
    trials = fetched(address, f"studies/{number}?after=0")["trials"]
    assert [trial["state"] for trial in trials].count("Running") == 1
    assert all(trial["state"] in ("Running", "Complete") for trial in trials)
    words = page_words(browser, f"{address}/dashboard/studies/{number}", tmp_path / "profile")
    assert stratum in words
    for trial in trials:
        assert f"trial #{trial['number']}" in words  # its curve of intermediate values, the running one's too

    for path, content in taken.items():
        path.write_bytes(content)
    deadline = time.monotonic() + 30
    while {t["state"] for t in fetched(address, f"studies/{number}?after=0")["trials"]} != {"Complete"}:
        assert time.monotonic() < deadline, "the view did not follow"
        time.sleep(0.5)
    words = page_words(browser, f"{address}/dashboard/studies/{number}", tmp_path / "profile")
    best = min(trial["values"][0] for trial in fetched(address, f"studies/{number}?after=0")["trials"])
    assert "Best Trial" in words
    assert f"{best:.6f}"[:-1] in words
    assert "optimizer.learning_rate" in words
