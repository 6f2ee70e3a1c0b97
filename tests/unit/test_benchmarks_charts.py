"""The charts' numbers, and drawing them again."""

from pathlib import Path

import pytest
from benchmarks import charts
from benchmarks.charts import Line, Numbers

NUMBERS = Numbers(
    "some day",
    [Line("PiCaS", [(1, [900.0, 1100.0, 1000.0]), (64, [1500.0])]), Line("peer", [(1, [60.0])])],
    [Line("embedded store", [(1_000, [0.1]), (1_000_000, [0.2])])],
)


def test_a_point_is_the_median_of_its_repetitions() -> None:
    """What is drawn is the median; all repetitions are kept."""
    assert NUMBERS.pilots[0].medians() == ([1, 64], [1000.0, 1500.0])


def test_numbers_survive_the_file(tmp_path: Path) -> None:
    """Numbers that were saved are read back the same."""
    NUMBERS.save(tmp_path / "numbers.json")
    assert Numbers.load(tmp_path / "numbers.json") == NUMBERS


@pytest.mark.parametrize("text", ["{}", "[]", "no JSON", '{"measured": 1, "pilots": 2, "size": 3}'])
def test_other_files_are_refused(text: str, tmp_path: Path) -> None:
    """A file that holds something else is a ValueError, not a chart."""
    path = tmp_path / "numbers.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="holds no numbers"):
        Numbers.load(path)


def test_draw_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same numbers make the same charts, with names and units as text."""
    pytest.importorskip("matplotlib", reason="only 'make bench' installs it")
    NUMBERS.save(tmp_path / "numbers.json")
    drawn = []
    for folder in (tmp_path / "once", tmp_path / "again"):
        arguments = ["--from", str(tmp_path / "numbers.json"), "--to", str(folder)]
        assert charts.main(arguments) == 0
        drawn.append({path.name: path.read_text() for path in folder.iterdir()})
    assert drawn[0] == drawn[1]
    assert set(drawn[0]) == {"numbers.json", "pilots.svg", "size.svg"}
    for words in ("PiCaS", "peer", "tokens/s", "pilots (", "some day", "1,500", "<title>"):
        assert words in drawn[0]["pilots.svg"]
    assert "ms a token" in drawn[0]["size.svg"]
    assert capsys.readouterr().out.splitlines()[0].endswith("pilots.svg")


def test_no_such_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is not there is one clear line."""
    pytest.importorskip("matplotlib", reason="only 'make bench' installs it")
    assert charts.main(["--from", str(tmp_path / "none.json")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
