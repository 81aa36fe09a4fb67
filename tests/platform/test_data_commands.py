"""`crossover data inspect` and `data verify` against the files themselves; what is damaged or forged is one message."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from crossover.trainers.data import Corpus, Manifest, open_corpus, prepare_corpus
from crossover.trainers.data.manifest import MANIFEST_NAME, SPLITS, SplitName
from crossover.trainers.data.shards import write_shard

from .conftest import Call, is_one_message

_FRACTIONS: dict[SplitName, float] = {"training": 0.6, "validation": 0.2, "test": 0.2}


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """Of 3 to 400 letters, one of them twice."""
    draw = random.Random(0)
    made = [f"{number}: " + "".join(draw.choices("abcdef größe", k=draw.randint(1, 400))) for number in range(80)]
    return [*made, made[7]]


@pytest.fixture(scope="module")
def folder(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus with all kinds of files."""
    place = tmp_path_factory.mktemp("corpora")
    (place / "texts.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in ["", *texts]))
    settings = {"tokenizer": "bpe:300", "quality": "compression", "piece_tokens": 64, "fractions": _FRACTIONS}
    prepare_corpus([place / "texts.jsonl"], place / "corpus", **settings)  # type: ignore[arg-type]
    return place / "corpus"


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def documents(folder: Path, split: SplitName) -> list[Any]:
    """The tokens of each."""
    tokens = opened(folder).split(split)
    return [tokens.read(*pair).copy() for pair in pairwise(tokens.document_offsets.tolist())]


def opened(folder: Path) -> Corpus:
    corpus = open_corpus(str(folder))
    assert isinstance(corpus, Corpus)
    return corpus


def test_what_is_inspected_is_what_the_files_hold(crossover: Call, folder: Path, texts: list[str]) -> None:
    done = crossover("data", "inspect", folder, "--json", "--examples", 3)
    assert (done.code, done.err) == (0, "")
    found = json.loads(done.out)
    paths = [path for path in folder.iterdir() if path.name != MANIFEST_NAME]
    assert found["files"] == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    assert found["content_hash"] == opened(folder).content_hash
    assert (found["tokenizer"], found["num_text_tokens"], found["num_output_tokens"]) == ("bpe:300", 300, 301)
    assert found["left_out"] == {"duplicates": 1, "near_duplicates": 0, "empty": 1, "skipped": 0}
    assert sum(split["bytes"] for split in found["splits"].values()) == sum(len(t.encode()) for t in texts[:-1])
    decode = opened(folder).tokenizer.decode
    for split in SPLITS:
        lengths = [len(tokens) for tokens in documents(folder, split)]
        counts = found["splits"][split]
        assert (counts["documents"], counts["tokens"]) == (len(lengths), sum(lengths))
        assert counts["pieces"] == sum(-(-length // 64) for length in lengths)
        assert counts["bytes_per_token"] == pytest.approx(counts["bytes"] / sum(lengths))
        for bound, number in found["lengths"][split].items():
            assert number == sum(int(bound) // 2 < length <= int(bound) or length == int(bound) for length in lengths)
        assert sum(found["lengths"][split].values()) == len(lengths)
        own = [decode(tokens).decode()[:160] for tokens in documents(folder, split)]
        assert len(set(found["examples"][split])) == 3 and set(found["examples"][split]) <= set(own)
    tiers = {name: tokens for name, tokens in found["budgets"].items() if name != "all"}
    assert list(tiers) == ["low", "medium", "high"] and sum(tiers.values()) == found["budgets"]["all"]
    training = found["splits"]["training"]
    assert found["budgets"]["all"] == training["tokens"] + training["pieces"]


def test_a_person_sees_the_same(crossover: Call, folder: Path) -> None:
    found = json.loads(crossover("data", "inspect", folder, "--json").out)
    done = crossover("data", "inspect", folder, "--examples", 1)
    assert (done.code, done.err) == (0, "")
    training = found["splits"]["training"]
    for said in (
        f"corpus corpus in {folder}",
        f"content {found['content_hash']}",
        "tokenizer bpe:300: 300 text tokens, 301 outputs",
        "left out: 1 duplicates, 0 near-duplicates, 1 empty, 0 skipped",
        f"largest data.unique_tokens: all {found['budgets']['all']:,}, low {found['budgets']['low']:,}",
        "length of validation documents, in tokens",
        "5 files, sha256:",
        *(f"{sha256}  {name}" for name, sha256 in found["files"].items()),
    ):
        assert said in done.out
    words = next(line for line in done.out.splitlines() if line.startswith("training")).split()
    assert words[1:5] == [f"{training[name]:,}" for name in ("documents", "pieces", "tokens", "bytes")]
    assert [line.partition(":")[0] for line in done.out.splitlines() if line.endswith("'")] == list(SPLITS)
    bare = crossover("data", "inspect", folder, "--examples", 0)
    assert not [line for line in bare.out.splitlines() if line.endswith("'")]


def test_verify_says_what_it_read(crossover: Call, folder: Path) -> None:
    done = crossover("data", "verify", folder)
    assert (done.code, done.err) == (0, "")
    manifest = Manifest.read(folder)
    facts = manifest.splits["validation"]
    said = dict(line.split(": ", 1) for line in done.out.splitlines())
    assert list(said) == ["files", *SPLITS, "tiers", "content"]
    assert said["files"] == "5 as in the manifest, by sha256" and said["content"] == manifest.content_hash
    assert said["validation"] == (
        f"{facts.num_documents:,} documents, {facts.num_tokens:,} tokens, {facts.num_bytes:,} bytes of text"
    )
    assert json.loads(crossover("data", "verify", folder, "--json").out) == said


def forge(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """A manifest that says something else."""
    path = folder / MANIFEST_NAME
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def rewrite(folder: Path, split: SplitName, tokens: list[Any]) -> None:
    """A shard with other documents, whose file the manifest knows."""
    shard = write_shard(folder / f"{split}-00000.arrow", split, tokens, 64, None)

    def change(content: dict[str, Any]) -> None:
        content["shards"] = [shard.model_dump() if one["split"] == split else one for one in content["shards"]]

    forge(folder, change)


def test_documents_that_are_not_where_their_hash_puts_them_are_found(crossover: Call, copy: Path) -> None:
    tokens = documents(copy, "training")
    for forged in (tokens[::-1], [tokens[1], *tokens[1:]], documents(copy, "validation"), [tokens[0][1:], *tokens[1:]]):
        rewrite(copy, "training", forged)
        done = crossover("data", "verify", copy)
        assert is_one_message(done), done
        assert "of the training split of corpus" in done.err and "is not where its hash" in done.err
        assert done.err.rstrip().endswith("delete the folder and prepare the corpus again")


def test_a_document_that_is_missing_is_found(crossover: Call, copy: Path) -> None:
    tokens = documents(copy, "training")
    rewrite(copy, "training", tokens[:-1])
    done = crossover("data", "verify", copy)
    assert is_one_message(done), done
    assert f"documents of training: {len(tokens) - 1} found, and the manifest says {len(tokens)}" in done.err


@pytest.mark.parametrize("name", ["num_documents", "num_pieces", "num_tokens", "num_bytes", "documents_sha256"])
def test_a_manifest_that_says_something_else_is_found(name: str, crossover: Call, copy: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        facts = content["splits"]["test"]
        facts[name] = "0" * 64 if name == "documents_sha256" else facts[name] + 1

    forge(copy, change)
    done = crossover("data", "verify", copy)
    assert is_one_message(done), done
    what = "hash" if name == "documents_sha256" else name.removeprefix("num_")
    assert f"{what} of test: " in done.err and "and the manifest says" in done.err


def test_tiers_that_are_not_as_the_manifest_says_are_found(crossover: Call, copy: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["quality"]["tiers"][1]["num_documents"] += 1

    forge(copy, change)
    done = crossover("data", "verify", copy)
    assert is_one_message(done), done
    assert "documents of tier medium: " in done.err


def _flip(folder: Path) -> str:
    raw = bytearray((folder / "validation-00000.arrow").read_bytes())
    raw[-30] ^= 1
    (folder / "validation-00000.arrow").write_bytes(raw)
    return r"validation-00000.arrow has sha256"


def _shorten(folder: Path) -> str:
    path = folder / "quality.arrow"
    path.write_bytes(path.read_bytes()[:-8])
    return "quality.arrow has "


def _lose(folder: Path) -> str:
    (folder / "tokenizer.json").unlink()
    return "tokenizer.json cannot be read (No such file or directory)"


def _scribble(folder: Path) -> str:
    (folder / MANIFEST_NAME).write_text("{")
    return "manifest.json is damaged, not JSON"


def _age(folder: Path) -> str:
    forge(folder, lambda content: content.update(format_version=0))
    return "has format_version 0, this program reads"


@pytest.mark.parametrize("command", ["inspect", "verify"])
@pytest.mark.parametrize("damage", [_flip, _shorten, _lose, _scribble, _age])
def test_a_damaged_corpus_is_one_message(
    damage: Callable[[Path], str], command: str, crossover: Call, copy: Path
) -> None:
    says = damage(copy)
    done = crossover("data", command, copy)
    assert is_one_message(done), done
    assert says in done.err and "prepare the corpus again" in done.err


@pytest.mark.parametrize("command", ["inspect", "verify"])
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nowhere", "is neither a folder nor the embedded corpus python-stdlib"),
        ("copie", "did you mean 'copy'?"),
        (".", "is no prepared corpus (there is no manifest.json in it): prepare one with"),
        ("0.5 * copy + 0.5 * other", "is a mixture, and one corpus is wanted here"),
    ],
)
def test_what_is_no_corpus_is_one_message(
    name: str, says: str, command: str, crossover: Call, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(copy.parent)
    done = crossover("data", command, name)
    assert is_one_message(done), done
    assert says in done.err
