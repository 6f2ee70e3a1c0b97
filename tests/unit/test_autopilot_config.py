"""What pilots.toml may hold, and what is said of slips in it."""

from pathlib import Path

import pytest

from picas.autopilot import Cluster, Kind, read
from picas.errors import ConfigError
from picas.schedulers import Shape

WHOLE = """
pool = "https://host/db"
[clusters.snellius]
scheduler = "slurm"
via = "ssh snellius"
picas = "/opt/picas"
setup = '''
module load 2023'''
ask_every = "2m"
[pilots.single]
view = "SingleCore"
cluster = "snellius"
cores = 2
memory = "4G"
gpus = 1
time = "2h"
partition = "thin"
options = ["--account=x"]
run = ["--max-scrub", "2", "--", "./process.sh", "--view", "{input}"]
min = 1
max = 7
max_pending = 3
max_per_hour = 9
idle = "90s"
work_per_pilot = "1h"
"""
LEAST = "[clusters.here]\n[pilots.a]\nview = 'Monitor/todo'\n"


def write(folder: Path, text: str) -> Path:
    """A file with a text."""
    path = folder / "pilots.toml"
    path.write_text(text)
    return path


def test_all_that_can_be_said(tmp_path: Path) -> None:
    """Each key has its place."""
    config = read(write(tmp_path, WHOLE))
    assert config.pool == "https://host/db"
    setup = "module load 2023"
    assert config.clusters == {
        "snellius": Cluster("snellius", "slurm", "ssh snellius", "/opt/picas", setup, 120.0)
    }
    assert config.kinds == [
        Kind(
            "single",
            "SingleCore/todo",
            "snellius",
            Shape(2, 4 << 30, 1, 7200.0, "thin", ("--account=x",), setup),
            ("--max-scrub", "2", "--", "./process.sh", "--view", "{input}"),
            *(1, 7, 3, 9, 90.0, 3600.0),
        )
    ]


def test_the_least_that_must_be_said(tmp_path: Path) -> None:
    """A cluster and a view; the rest is careful."""
    config = read(write(tmp_path, LEAST))
    assert config.clusters == {"here": Cluster("here")}
    assert config.kinds == [Kind("a", "Monitor/todo", "here")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pool = ", "is not valid TOML"),
        ("[pilots.a]", "there is no table [clusters.NAME]: add [clusters.snellius]"),
        ("[clusters.here]", "there is no table [pilots.NAME]: add [pilots.single]"),
        ("pol = ''\n" + LEAST, "pilots.toml, pol: there is no such key; did you mean 'pool'?"),
        (LEAST + "max_pendng = 1", "[pilots.a], max_pendng: there is no such key; did you mean "),
        (LEAST + "zzz = 1", "[pilots.a], zzz: there is no such key; there are cluster, view"),
        (LEAST.replace("view", "max = 1 #"), "[pilots.a], view: it is missing: say whose tokens"),
        (LEAST + "cores = 0", "[pilots.a], cores: 0 is too small; at least 1"),
        (LEAST + "cores = '4'", "[pilots.a], cores: '4' is no number; write it like 4"),
        (LEAST + "gpus = -1", "[pilots.a], gpus: -1 is no number"),
        (LEAST + "memory = 'much'", "[pilots.a], memory: 'much' is no size; write it like"),
        (LEAST + "time = 'long'", "[pilots.a], time: 'long' is no duration; write it like"),
        (LEAST + "work_per_pilot = 0", "work_per_pilot: it must be longer than nothing"),
        (LEAST + "run = 'x'", "[pilots.a], run: 'x' is no list of texts; write it like"),
        (LEAST + "run = ['--view=x']", "run: --view has a key of its own in this file"),
        (LEAST + "min = 30", "[pilots.a], min: 30 is more than max, which is 20"),
        (LEAST + "cluster = 'ther'", "cluster: there is no [clusters.ther]; did you mean 'here'?"),
        (LEAST + "[clusters.b]", "[pilots.a], cluster: it is missing: say which of the clusters"),
        (LEAST.replace("pilots.a", "pilots.'a b'"), "a name has letters, digits, - and _"),
        ("clusters.here = 3\n" + LEAST[16:], "clusters: 'here' is no table: write [clusters."),
        (LEAST.replace("Monitor/todo", "a/b/c"), "[pilots.a], view: "),
        (LEAST + "partition = 3", "[pilots.a], partition: 3 is no text; put it into quotes"),
    ],
)
def test_a_slip_is_told_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    """File, table, key, and what to do."""
    with pytest.raises(ConfigError) as caught:
        read(write(tmp_path, text))
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "pilots.toml"))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """It is named."""
    with pytest.raises(ConfigError, match=r"cannot read .*none.toml: No such file"):
        read(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("run", "seconds"),
    [
        ([], 60),
        (["--margin", "5m"], 300),
        (["--margin=30s", "--slots", "2"], 30),
        (["--", "tool", "--margin", "5m"], 60),
    ],
)
def test_the_margin_of_the_pilots(run: list[str], seconds: float) -> None:
    """What tokens may take is reckoned with the margin that the pilots will keep."""
    assert Kind("a", "Monitor/todo", "here", run=run).margin == seconds
