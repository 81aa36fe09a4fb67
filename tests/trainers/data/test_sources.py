from __future__ import annotations

from pathlib import Path

import pytest

from crossover.trainers.data.sources import TextError, clean_text, find_files
from crossover.trainers.errors import CorpusError


def test_files_come_in_the_order_of_their_relative_path(tmp_path: Path) -> None:
    for name in ("b.txt", "a/z.txt", "a/b/c.txt", "a.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    found = [path.relative_to(tmp_path).as_posix() for path in find_files([tmp_path])]
    assert found == ["a.txt", "a/b/c.txt", "a/z.txt", "b.txt"]


def test_hidden_names_and_caches_are_skipped_but_not_when_they_are_named(tmp_path: Path) -> None:
    for name in (".git/config", ".hidden", "__pycache__/x.py", "node_modules/y.js", "kept.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    assert find_files([tmp_path]) == [tmp_path / "kept.txt"]
    assert find_files([tmp_path / ".hidden"]) == [tmp_path / ".hidden"]


def test_broken_links_and_folders_that_link_back_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("text")
    (tmp_path / "broken.txt").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert find_files([tmp_path]) == [tmp_path / "text.txt"]


def test_a_missing_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"nowhere does not exist"):
        find_files([tmp_path / "nowhere"])


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        (b"abc\xff", "byte 0xff at byte offset 3"),
        (b"\xe2\x82", "byte 0xe2 at byte offset 0"),
        ("Grüße".encode("latin-1"), "byte 0xfc at byte offset 2"),
        (b"ELF\0\xff", "byte 0x00 at byte offset 3"),
        (b"\xff\0", "byte 0xff at byte offset 0"),
    ],
)
def test_what_is_no_text_is_refused_by_offset(raw: bytes, fault: str) -> None:
    with pytest.raises(TextError) as caught:
        clean_text(raw, "strict")
    assert fault in str(caught.value)
    assert "--errors replace" in str(caught.value) and "--errors skip" in str(caught.value)


@pytest.mark.parametrize(
    ("raw", "repaired", "num_replaced"),
    [
        (b"ab\xff\xffc", "ab\ufffd\ufffdc", 2),
        (b"a\0b", "a\ufffdb", 1),
        ("\ufffd was here".encode() + b"\xff", "\ufffd was here\ufffd", 1),
        ("sound €".encode(), "sound €", 0),
    ],
)
def test_repairs_are_made_and_counted(raw: bytes, repaired: str, num_replaced: int) -> None:
    assert clean_text(raw, "replace") == (repaired.encode(), num_replaced)


def test_line_ends_and_byte_order_marks_are_kept_as_they_are() -> None:
    assert clean_text(b"\xef\xbb\xbfa\r\nb\r", "strict") == (b"\xef\xbb\xbfa\r\nb\r", 0)
