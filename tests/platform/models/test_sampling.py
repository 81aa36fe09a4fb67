from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Call = Callable[..., Any]


def test_objectives_stand_side_by_side(counting_ar: Path, counting_mdm: Path, crossover: Call) -> None:
    arguments = ("--prompt", "one two ", "--tokens", 12, "--samples", 2)
    done = crossover("sample", counting_ar, counting_mdm, *arguments, "--json")
    assert (done.code, done.err) == (0, "")
    ar, mdm = json.loads(done.out)
    assert (ar["objective"], mdm["objective"]) == ("autoregressive", "masked_diffusion")
    assert ar["num_tokens"] == mdm["num_tokens"] == 24
    assert mdm["flops_per_token"] > 5 * ar["flops_per_token"]  # a pass over all tokens for each of them
    assert min(ar["tokens_per_second"], mdm["tokens_per_second"]) > 0
    assert all(len(one["texts"]) == 2 for one in (ar, mdm))
    table = crossover("sample", counting_ar, counting_mdm, *arguments).out
    assert table.count("one two") >= 4
    assert "FLOPs a token" in table


def test_greedy_text_goes_on_counting(counting_ar: Path, crossover: Call) -> None:
    done = crossover(
        *("sample", counting_ar, "--prompt", "one two three fo", "--tokens", 6, "--temperature", 0, "--json")
    )
    assert json.loads(done.out)[0]["texts"][0].startswith("ur ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tokens", 40], "the prompt has 0 tokens and 40 are to follow, but model"),
        (["--prompt", "x" * 30, "--tokens", 3], "set --tokens to 2 or less"),
        (["--top-p", 2], "--top-p is 2.0, and must be above 0 and at most 1"),
    ],
)
def test_a_mistake_is_one_message(counting_ar: Path, crossover: Call, arguments: list[object], message: str) -> None:
    done = crossover("sample", counting_ar, *arguments)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert done.err.count("\n") == 1
