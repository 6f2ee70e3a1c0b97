"""Every script of ``examples/classic``: with our client on both stores, and with the classic one.

The classic client proves that the scripts are honest: they use nothing but what it has.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.acceptance.classic_examples import FOLDER, Examples, classic, copy_examples, ours
from tests.classic import classic_python
from tests.components import skipped_component
from tests.slurm.cluster import Slurm

ALIASES = {
    "create_views.py": "createViews.py",
    "push_tokens.py": "pushTokens.py",
    "create_tokens.sh": "createTokens",
    "local_example.py": "local-example.py",
    "example_template.py": "example-template.py",
    "slurm_example.sh": "slurm-example.sh",
    "reset_tokens.py": "resetTokens.py",
    "delete_tokens.py": "deleteTokens.py",
    "run_autopilot.py": "core_scanner.py",
    "core-scanner.py": "core_scanner.py",
}

CLIENTS = [
    "ours-embedded",
    pytest.param("ours-couchdb", marks=pytest.mark.couchdb),
    pytest.param("classic-couchdb", marks=pytest.mark.couchdb),
]


def make(kind: str, folder: Path, request: pytest.FixtureRequest) -> Examples:
    """The scripts in a folder, for a client and a store."""
    if kind == "ours-embedded":
        return ours(folder, f"sqlite:///{folder}/picas.db")
    url: str = request.getfixturevalue("database")
    if kind == "ours-couchdb":
        return ours(folder, url)
    python = classic_python()
    if python is None:
        skipped_component("classic PiCaS client", "its packages could not be installed")
        pytest.skip("classic PiCaS client: its packages could not be installed")
    return classic(folder, url, python)


@pytest.fixture(params=CLIENTS)
def examples(request: pytest.FixtureRequest, tmp_path: Path) -> Examples:
    """The scripts beside an empty pool, once for each client and store."""
    return make(request.param, tmp_path / "classic", request)


@pytest.fixture(params=CLIENTS[1:2])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Examples:
    """The same for pools that other machines reach."""
    return make(request.param, tmp_path / "classic", request)


def test_quick_example(examples: Examples) -> None:
    """Views, three tokens, a pilot: all done, with the block and the logs that users know."""
    assert "Monitor" in examples.run("createViews.py")
    examples.run("pushTokens.py", "quickExample.txt")
    ids = ["token_0", "token_1", "token_2"]
    assert examples.found("Monitor/todo") == ids
    told = examples.run("local-example.py")
    blocks = re.findall(r"^-{23}\nWorking on token: (\w+)\n(.*?)^-{23}$", told, re.M | re.S)
    assert sorted(name for name, _ in blocks) == ids
    fields = dict(line.split(" ", 1) for line in dict(blocks)["token_0"].splitlines())
    assert (fields["_id"], fields["type"], fields["done"]) == ("token_0", "token", "0")
    assert fields["input"] == "echo 'this is token A'"
    assert int(fields["lock"]) > 0
    assert {"_rev", "hostname", "scrub_count", "exit_code"} <= set(fields)

    assert examples.found("Monitor/done") == ids
    date, host, *rest, last = examples.attachment("token_0", "logs_token_0.out").splitlines()
    assert host == os.uname().nodename
    assert rest == ["echo 'this is token A'", "token_0", "output_token_0", "this is token A"]
    assert all(re.search(r"\d\d:\d\d:\d\d", line) for line in (date, last))
    assert examples.attachment("token_0", "logs_token_0.err") == ""
    assert examples.tokens()["token_0"]["exit_code"] == 0


def test_quick_example_in_the_newer_spelling(examples: Examples) -> None:
    """The names with underscores, and ``quick`` instead of the file."""
    examples.run("create_views.py")
    examples.run("push_tokens.py", "quick")
    told = examples.run("local_example.py", "--design_doc", "Monitor", "--view", "todo", "-v")
    assert told.count("Working on token: ") == 3
    assert len(examples.found("Monitor/done")) == 3
    assert "Working" not in examples.run("local_example.py")


def test_failure_is_tried_again_and_then_an_error(examples: Examples) -> None:
    """A failing command has three tries; its status and its message stay with the token."""
    examples.run("createViews.py")
    (examples.folder / "bad.txt").write_text("echo oops >&2; exit 3\n\n")
    examples.run("pushTokens.py", "bad.txt")
    assert examples.run("local-example.py").count("Working on token: token_0") == 3
    assert examples.found("Monitor/error") == ["token_0"]
    doc = examples.tokens()["token_0"]
    assert (doc["exit_code"], doc["scrub_count"]) == (3, 2)
    assert "oops\n" in examples.attachment("token_0", "logs_token_0.err")


def test_reset_and_delete(examples: Examples) -> None:
    """Errors go back to todo without their logs, or are deleted; young locks are left alone."""
    examples.run("createViews.py")
    (examples.folder / "bad.txt").write_text("exit 3\nexit 4\n")
    examples.run("pushTokens.py", "bad.txt")
    examples.run("local-example.py")
    assert examples.run("resetTokens.py", "Monitor/error", "24").endswith(": 0\n")
    assert examples.run("resetTokens.py", "Monitor/error").endswith("tokens: 2\n")
    doc = examples.tokens()["token_1"]
    assert (doc["lock"], doc["done"], doc["exit_code"], doc["scrub_count"]) == (0, 0, "", 3)
    assert "_attachments" not in doc
    assert examples.found("Monitor/todo") == ["token_0", "token_1"]
    examples.run("local-example.py")
    assert examples.run("reset_tokens.py", "Monitor/locked").endswith(": 0\n")
    assert examples.run("deleteTokens.py", "Monitor/error").endswith("tokens: 2\n")
    assert examples.run("delete_tokens.py", "Monitor/error").endswith("tokens: 0\n")
    assert examples.tokens() == {}


def test_new_tokens_never_collide(examples: Examples) -> None:
    """Tokens that are pushed again get numbers of their own, also after deletes."""
    examples.run("createViews.py")
    assert "token_0 … token_2" in examples.run("pushTokens.py")
    examples.run("pushTokens.py")
    examples.run("local-example.py")
    examples.run("deleteTokens.py", "Monitor/done")
    examples.run("pushTokens.py")
    (examples.folder / "one.txt").write_text("echo one\n")
    examples.run("pushTokens.py", "one.txt")
    examples.run("pushTokens.py")
    assert len(examples.found("Monitor/todo")) == 7


def test_word_count(examples: Examples) -> None:
    """Work in Python: a field and an attachment hold the result, a missing file is an error."""
    examples.run("createViews.py")
    (examples.folder / "files.txt").write_text("quickExample.txt\nnot-there.txt\n")
    examples.run("pushTokens.py", "files.txt")
    examples.run("word_count_example.py")
    tokens = examples.tokens()
    assert tokens["token_0"]["output"] == {"words": 15}
    assert examples.attachment("token_0", "word_count") == "15\n"
    assert examples.found("Monitor/error") == ["token_1"]
    assert "not-there.txt: No such file" in tokens["token_1"]["output"]


def test_template(examples: Examples) -> None:
    """The template runs as it is."""
    examples.run("createViews.py")
    examples.run("pushTokens.py", "wordCountExample.txt")
    examples.run("example-template.py")
    assert len(examples.found("Monitor/done")) == 3
    assert examples.tokens()["token_0"]["output"] == {"bytes": 17}
    assert examples.attachment("token_0", "logs_token_0.out") == "quickExample.txt\n"


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler (cc)")
def test_fractals(examples: Examples) -> None:
    """The long example: built, one line of process_task.sh changed, pictures drawn."""
    examples.run("createViews.py")
    (examples.folder / "bin").mkdir()
    build = ["cc", "src/fractals.c", "-o", "bin/fractals", "-lm"]
    subprocess.run(build, cwd=examples.folder, check=True)
    script = examples.folder / "process_task.sh"
    other = 'bin/fractals -o "$OUTPUT" $INPUT'
    text = script.read_text().replace('\nbash -c "$INPUT"\n', f"\n{other}\n")
    assert other in text
    script.write_text(text)
    (examples.folder / "few.txt").write_text("-q 0.100 -d 16 -m 400\n-q 0.184 -d 16 -m 400\n")
    examples.run("pushTokens.py", "few.txt")
    examples.run("local-example.py")
    assert len(examples.found("Monitor/done")) == 2
    assert (examples.folder / "output_token_1").read_bytes().startswith(b"P6\n16 16\n")
    assert "24 tokens" in examples.run("pushTokens.py", "fractals")


def test_autopilot_without_slurm(examples: Examples) -> None:
    """The scanner finds the tokens of each design, and says what it would submit."""
    nowhere = {"PATH": str(Path(examples.python).parent)}
    examples.run("createViews.py", "autopilot")
    scan = ["core_scanner.py", "--cores", "4", "--design_doc", "MultiCore"]
    assert "Nothing to do in MultiCore/todo" in examples.run(*scan, environment=nowhere)
    told = examples.run("pushAutoPilotExampleTokens.py")
    assert told.splitlines() == ["token_0: 1 core", "token_1: 1 core", "token_2: 4 cores"]
    assert examples.found("SingleCore/todo") == ["token_0", "token_1"]
    assert examples.found("MultiCore/todo") == ["token_2"]
    assert "--cpus-per-task=4" in examples.run(*scan, environment=nowhere)
    told = examples.run("run_autopilot.py", environment=nowhere)
    assert "SingleCore/todo" in told
    assert "--cpus-per-task=1" in told
    examples.run("local-example.py", "--design_doc", "SingleCore")
    assert examples.found("SingleCore/done") == ["token_0", "token_1"]
    assert examples.found("Monitor/todo") == ["token_2"]
    assert "3 tokens" in examples.run("push_tokens.py", "autopilot")


def test_slurm_array_drains_the_quick_example(shared: Examples, slurm: Slurm) -> None:
    """Six pilots of one array share the tokens, each of which runs once and names its job."""
    shared.run("createViews.py")
    shared.run("pushTokens.py", "quickExample.txt")
    job = slurm.submit("slurm-example.sh", cwd=shared.folder, environment=shared.variables())
    slurm.wait()
    assert shared.found("Monitor/done") == ["token_0", "token_1", "token_2"]
    outputs = [file.read_text() for file in shared.folder.glob(f"slurm-{job}_*.out")]
    assert len(outputs) == 6
    assert sum(text.count("Working on token: ") for text in outputs) == 3, outputs
    for doc in shared.tokens().values():
        assert doc["slurm_job_id"].startswith(f"{job}_")


def test_cancelled_slurm_job_gives_its_token_back(shared: Examples, slurm: Slurm) -> None:
    """Slurm's signal reaches the pilot itself: the child ends, and the token is in todo again."""
    shared.run("createViews.py")
    (shared.folder / "long.txt").write_text("touch started; exec sleep 300\n")
    shared.run("pushTokens.py", "long.txt")
    job = slurm.submit(
        "--array=0", "slurm-example.sh", cwd=shared.folder, environment=shared.variables()
    )
    slurm.until("the token runs", (shared.folder / "started").exists)
    slurm.run("scancel", job)
    slurm.wait()
    assert shared.found("Monitor/todo") == ["token_0"]


def test_autopilot_submits_jobs_of_the_right_cores(shared: Examples, slurm: Slurm) -> None:
    """The scanner's pilots run the tokens of their design, with the cores it was told."""
    shared.run("createViews.py", "autopilot")
    shared.run("pushAutoPilotExampleTokens.py")
    told = shared.run(
        "core_scanner.py",
        "--cores",
        "4",
        "--design_doc",
        "MultiCore",
        environment=slurm.environment,
    )
    told += shared.run("run_autopilot.py", environment=slurm.environment)
    jobs = re.findall(r"Submitted batch job (\d+)", told)
    cores = [{entry["NumCPUs"] for entry in slurm.job(job)} for job in jobs]
    assert cores == [{"4"}, {"1"}]
    slurm.wait()
    assert len(shared.found("Monitor/done")) == 3
    for token_id, number in (("token_0", "1"), ("token_1", "1"), ("token_2", "4")):
        assert f"\n{number}\n" in shared.attachment(token_id, f"logs_{token_id}.out")
    again = shared.run("run_autopilot.py", environment=slurm.environment)
    assert "Nothing to do" in again


def test_autopilot_does_not_pile_up_jobs(shared: Examples, slurm: Slurm) -> None:
    """While pilots of an earlier look wait in the queue, no others are submitted."""
    shared.run("createViews.py", "autopilot")
    shared.run("pushAutoPilotExampleTokens.py")
    slurm.run("scontrol", "update", "partitionname=main", "state=down")
    try:
        first = shared.run("core_scanner.py", environment=slurm.environment)
        second = shared.run("core_scanner.py", environment=slurm.environment)
        slurm.run("scancel", *re.findall(r"Submitted batch job (\d+)", first))
    finally:
        slurm.run("scontrol", "update", "partitionname=main", "state=up")
    assert "Submitted" not in second
    assert "waiting already" in second


GRID_JOB = "grid-example.jdl"


def sandbox_files(folder: Path) -> list[Path]:
    """The files that the JDL sends along."""
    listed = re.search(r"InputSandbox *= *{([^}]*)}", (folder / GRID_JOB).read_text())
    assert listed is not None
    return [folder / name for name in re.findall(r'"([^"]+)"', listed[1])]


@pytest.mark.couchdb
def test_grid_job_needs_nothing_but_its_sandbox(database: str, tmp_path: Path) -> None:
    """In an empty folder, with an interpreter that has no packages, the pilot drains the pool."""
    here = ours(tmp_path / "classic", database)
    here.run("createViews.py")
    here.run("pushTokens.py", "quickExample.txt")
    here.run("grid-sandbox/pack.py")
    config = here.folder / "grid-sandbox" / "picasconfig.py"
    assert config.stat().st_mode & 0o777 == 0o600
    there = tmp_path / "worker"
    there.mkdir()
    for file in sandbox_files(here.folder):
        shutil.copyfile(file, there / file.name)
    done = subprocess.run(
        ["/bin/sh", "startpilot.sh"],
        cwd=there,
        env={"PATH": f"{base_python().parent}:/usr/bin:/bin", "HOME": "", "DIRACJOBID": "4711"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert here.found("Monitor/done") == ["token_0", "token_1", "token_2"]
    assert {doc["dirac_job_id"] for doc in here.tokens().values()} == {"4711"}
    assert "this is token A" in here.attachment("token_0", "logs_token_0.out")


def base_python() -> Path:
    """The interpreter below the virtual environment: it has no package of ours."""
    return Path(sys.base_prefix) / "bin" / "python3"


def test_grid_job_without_python_goes_elsewhere(tmp_path: Path) -> None:
    """The status 222 makes DIRAC send the job to another place."""
    script = FOLDER / "grid-sandbox" / "startpilot.sh"
    (tmp_path / "bin").mkdir()
    for name in ("dirname", "hostname"):
        (tmp_path / "bin" / name).symlink_to(shutil.which(name) or name)
    shutil.copy(script, tmp_path)
    done = subprocess.run(
        ["/bin/sh", "startpilot.sh"],
        cwd=tmp_path,
        env={"PATH": str(tmp_path / "bin")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 222
    assert "no Python 3.11" in done.stderr


def test_grid_job_cannot_use_an_embedded_pool(tmp_path: Path) -> None:
    """A file of this machine is refused, in one line."""
    here = ours(tmp_path / "classic", f"sqlite:///{tmp_path}/picas.db")
    here.run("grid-sandbox/pack.py", status=1)
    assert not (here.folder / "grid-sandbox" / "picas.tar").exists()


def test_jdl_is_right() -> None:
    """Output comes back under the names that the job writes, and every sandbox file is made."""
    text = (FOLDER / GRID_JOB).read_text()
    names = {name: re.search(rf'{name} = "([^"]+)"', text) for name in ("StdOutput", "StdError")}
    output = re.search(r"OutputSandbox *= *{([^}]*)}", text)
    assert output is not None
    assert all(match and f'"{match[1]}"' in output[1] for match in names.values())
    made = {"picas.tar", "picasconfig.py"}
    assert all(file.exists() for file in sandbox_files(FOLDER) if file.name not in made)


def test_create_tokens(tmp_path: Path) -> None:
    """The lines go to a file whose name is printed, or are printed; steps change their number."""
    script = str(FOLDER / "createTokens")

    def run(*options: str, status: int = 0) -> str:
        done = subprocess.run(
            [script, *options],
            env={**os.environ, "TMPDIR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status
        return done.stdout + done.stderr

    lines = Path(run().strip()).read_text().splitlines()
    assert len(lines) == 24
    assert lines[0] == "-q 0.100 -d 256 -m 400"
    assert lines[-1] == "-q 0.184 -d 6328 -m 8400"
    assert run("-p").splitlines() == lines
    assert len(run("-p", "-q", "40", "-d", "4000", "-m", "9600").splitlines()) == 5 * 2 * 2
    assert "-q wants a whole number above 0, not 'x'" in run("-q", "x", status=1)
    run("-d", "0", status=1)


@pytest.mark.parametrize("alias", ALIASES)
def test_other_spelling_is_the_same_script(alias: str) -> None:
    """Each name that was ever current is there, and runs."""
    assert (FOLDER / alias).read_text() == (FOLDER / ALIASES[alias]).read_text()
    assert os.access(FOLDER / alias, os.X_OK)


def test_pool_in_this_folder_by_default(tmp_path: Path) -> None:
    """Without any configuration the scripts use picas.db beside them."""
    copy_examples(tmp_path / "classic")
    url = f"sqlite:///{tmp_path}/classic/picas.db"
    here = Examples(tmp_path / "classic", sys.executable, url)
    here.run("createViews.py")
    here.run("pushTokens.py")
    here.run("local-example.py")
    assert len(here.found("Monitor/done")) == 3
