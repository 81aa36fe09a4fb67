from __future__ import annotations

from pathlib import Path

import pytest

from crossover.trainers.data.sources import find_files, read_text, scan_documents
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
def test_a_file_that_is_no_text_is_refused_by_name_and_offset(tmp_path: Path, raw: bytes, fault: str) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(raw)
    with pytest.raises(CorpusError) as caught:
        read_text(path, "strict")
    assert str(path) in str(caught.value)
    assert fault in str(caught.value)
    assert "--errors replace" in str(caught.value)


@pytest.mark.parametrize(
    ("raw", "repaired", "num_replaced"),
    [
        (b"ab\xff\xffc", "ab\ufffd\ufffdc", 2),
        (b"a\0b", "a\ufffdb", 1),
        ("\ufffd was here".encode() + b"\xff", "\ufffd was here\ufffd", 1),
        ("sound €".encode(), "sound €", 0),
    ],
)
def test_repairs_are_made_and_counted(tmp_path: Path, raw: bytes, repaired: str, num_replaced: int) -> None:
    path = tmp_path / "file.txt"
    path.write_bytes(raw)
    assert read_text(path, "replace") == (repaired.encode(), num_replaced)


def test_line_ends_and_byte_order_marks_are_kept_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_bytes(b"\xef\xbb\xbfa\r\nb\r")
    assert read_text(path, "strict")[0] == b"\xef\xbb\xbfa\r\nb\r"


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"gone\.txt cannot be read"):
        read_text(tmp_path / "gone.txt", "strict")


def test_equal_and_empty_documents_are_left_out_and_counted(tmp_path: Path) -> None:
    for name, text in {"a": "one", "b": "two", "c": "one", "d": "", "e": "one", "f": ""}.items():
        (tmp_path / name).write_text(text)
    scan = scan_documents(find_files([tmp_path]), "strict")
    assert [document.path.name for document in scan.documents] == ["a", "b"]
    assert (scan.num_files, scan.num_duplicates, scan.num_empty) == (6, 2, 2)


def test_documents_that_are_equal_after_repair_are_duplicates(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x\xff")
    (tmp_path / "b").write_bytes(b"x\xfe")
    scan = scan_documents(find_files([tmp_path]), "replace")
    assert (scan.num_duplicates, scan.num_files_replaced, scan.num_characters_replaced) == (1, 1, 1)
