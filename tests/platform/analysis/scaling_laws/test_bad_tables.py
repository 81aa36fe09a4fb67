"""Tables that no law can be fitted to: one message that names the cause, never numbers that look fine."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pa_parquet
import pytest
from law_tables import AR, made_table

from crossover.platform.analysis.scaling_laws import FitSettings, LossTable, LossTableError, fit_law, read_losses
from crossover.platform.analysis.scaling_laws.reading import parse_columns

GOOD = "N,D,U,loss\n" + "".join(f"{n}e6,{d}e8,1e8,{3 + 1 / n + 1 / d}\n" for n in (1, 2, 4, 8) for d in (1, 2, 4, 8))


def written(folder: Path, text: str) -> Path:
    path = folder / "table.csv"
    path.write_text(text, encoding="utf-8")
    return path


def refused(path: Path, **settings: object) -> str:
    with pytest.raises(LossTableError) as error:
        fit_law(read_losses(path), FitSettings(num_draws=20, **settings))  # type: ignore[arg-type]
    return str(error.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("N,loss\n1e6,3\n", ("column D is missing", "--columns")),
        ("D,U\n1e6,3\n", ("column N, loss is missing",)),
        ("N,D,loss\n", ("no rows",)),
        (GOOD.replace("1e6,1e8,1e8,5.0", "1e6,1e8,1e8,nan"), ("loss is nan in row 1",)),
        (GOOD.replace("1e6,1e8,1e8,5.0", "1e6,1e8,1e8,-5.0"), ("loss is -5.0 in row 1", "above 0")),
        (GOOD.replace("1e6,1e8,1e8,5.0", "0,1e8,1e8,5.0"), ("N is 0.0 in row 1",)),
        (GOOD.replace("1e6,1e8,1e8,5.0", "1e6,1e8,1e8,inf"), ("loss is inf in row 1",)),
        (GOOD.replace("1e6,1e8,1e8,5.0", "1M,1e8,1e8,5.0"), ("'1M'", "N must be numbers")),
    ],
)
def test_values_that_cannot_be_are_named(tmp_path: Path, text: str, words: tuple[str, ...]) -> None:
    message = refused(written(tmp_path, text), law="chinchilla")
    assert all(word in message for word in words), message


def test_one_size_one_token_count_and_few_rows_are_not_identified(tmp_path: Path) -> None:
    rows = GOOD.splitlines()
    one_size = "\n".join([rows[0], *(row for row in rows[1:] if row.startswith("1e6"))])
    assert "every row has N = 1e+06" in refused(written(tmp_path, one_size), law="chinchilla")
    one_count = "\n".join([rows[0], *(row for row in rows[1:] if ",1e8,1e8," in row)])
    assert "every row has D = 1e+08" in refused(written(tmp_path, one_count), law="chinchilla")
    message = refused(written(tmp_path, "\n".join(rows[:5])), law="chinchilla")
    assert "4 distinct rows cannot determine 5 parameters" in message
    assert "not identified" in refused(written(tmp_path, "\n".join(rows[:5])))


def test_data_that_is_never_repeated_says_nothing_of_repeats(tmp_path: Path) -> None:
    table = made_table(families={"a": AR})
    once = table.take(table.epochs <= 1)
    with pytest.raises(LossTableError, match="no row repeats its data"):
        fit_law(once, FitSettings(law="data-constrained", num_draws=20))
    without = GOOD.replace("N,D,U,loss", "N,D,x,loss")
    assert "no column U" in refused(written(tmp_path, without), law="data-constrained")


def test_units_that_disagree_are_named(tmp_path: Path) -> None:
    header, *rows = GOOD.splitlines()
    lines = [f"{header},epochs", *(f"{row},{float(row.split(',')[1]) / 1e8 * 1000}" for row in rows)]
    message = refused(written(tmp_path, "\n".join(lines)))
    assert "units disagree in 16 of 16 rows" in message
    assert "D / U" in message


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"law": "chinchila"}, "did you mean chinchilla"),
        ({"objective": "huge"}, "--objective huge"),
        ({"share": "all"}, "--share all"),
        ({"fixed": {"gama": 1.0}}, "did you mean gamma"),
        ({"fixed": {"alpha": -1.0}}, "above 0"),
        ({"law": "chinchilla", "fixed": {"R_D*": 15.0}}, "has no R_D*"),
    ],
)
def test_settings_that_cannot_be_are_named(tmp_path: Path, settings: dict[str, object], words: str) -> None:
    assert words in refused(written(tmp_path, GOOD), **settings)


def test_too_few_draws_are_refused() -> None:
    with pytest.raises(LossTableError, match="--draws 5"):
        fit_law(made_table(families={"a": AR}), FitSettings(num_draws=5))


def test_files_that_are_no_tables_are_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    for path in (tmp_path / "notes.txt", tmp_path / "absent.csv"):
        with pytest.raises(LossTableError, match=path.name):
            read_losses(path)
    (tmp_path / "bad.parquet").write_bytes(b"PAR1nothing")
    with pytest.raises(LossTableError, match="cannot be read"):
        read_losses(tmp_path / "bad.parquet")


def test_columns_are_found_by_the_names_that_are_given(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    pa_parquet.write_table(
        pa.table({"size": [1e6, 2e6], "seen": [1e8, 2e8], "ce": [3.0, 2.9], "other": ["a", "b"]}), path
    )
    table = read_losses(path, parse_columns("N=size,D=seen,loss=ce"))
    assert table.params.tolist() == [1e6, 2e6]
    assert not table.has_unique
    with pytest.raises(LossTableError, match="no column sise"):
        read_losses(path, parse_columns("N=sise,D=seen,loss=ce"))
    with pytest.raises(LossTableError, match="M is none of"):
        parse_columns("M=size")


def test_tokens_follow_from_epochs_and_unique_tokens(tmp_path: Path) -> None:
    table = read_losses(written(tmp_path, "N,U,epochs,loss\n1e6,1e8,4,3.0\n"))
    assert isinstance(table, LossTable)
    assert table.tokens.tolist() == [4e8]
