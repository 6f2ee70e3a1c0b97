"""``picas config migrate``: from the classic client's configuration to ours, as a user runs it."""

import tomllib
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml
from cryptography.fernet import Fernet
from tests.acceptance.accounts import Picas


def classic_files(picas: Picas, url: str) -> tuple[Path, str]:
    """The classic client's files for a database; the file, and the password in it."""
    parts = urlsplit(url)
    password = unquote(parts.password or "none")
    folder = picas.config.parents[1] / "picas"
    folder.mkdir(parents=True, exist_ok=True)
    key = Fernet.generate_key()
    (folder / "key.dat").write_bytes(key)
    values = {
        "host_url": f"{parts.scheme}://{parts.hostname}:{parts.port}",
        "database": parts.path.strip("/"),
        "username": parts.username or "anna",
        "encrypted_password": Fernet(key).encrypt(password.encode()).decode(),
    }
    (folder / "conf.yml").write_text(yaml.safe_dump(values))
    return folder / "conf.yml", password


def test_before_and_after_migrating(picas: Picas, database: str) -> None:
    """The classic file works as it is; then the new one does, and no password is shown."""
    file, password = classic_files(picas, database)
    before = file.read_text()
    shown = picas("config", "show").stdout
    assert f"from file {file}" in shown
    picas("views", "create")
    assert "todo" in picas("status").stdout
    done = picas("config", "migrate")
    assert password not in done.stdout + done.stderr + shown
    assert str(picas.config) in done.stdout
    assert picas.config.stat().st_mode & 0o777 == 0o600
    assert tomllib.loads(picas.config.read_text())["password"] == password
    assert file.read_text() == before
    assert f"from file {picas.config}" in picas("config", "show").stdout
    assert "todo" in picas("status").stdout


def test_a_configuration_is_not_replaced_unasked(picas: Picas) -> None:
    """It is a mistake until the user says so; and so is a file that is none."""
    file, _ = classic_files(picas, "http://anna:secret@127.0.0.1:9/db")
    picas("config", "migrate")
    done = picas("config", "migrate", status=2)
    assert "--yes" in done.stderr
    picas("config", "migrate", "--yes", "--from", str(file))
    file.write_text("nothing: here")
    done = picas("config", "migrate", "--yes", status=2)
    assert "'host_url' is missing" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    classic_files(picas, "http://anna:secret@127.0.0.1:9/db")
    file.write_text(file.read_text().replace("http://127", "127"))
    before = picas.config.read_text()
    done = picas("config", "migrate", "--yes", status=2)
    assert f"host_url in {file}" in done.stderr
    assert picas.config.read_text() == before
    file.unlink()
    assert "--from" in picas("config", "migrate", status=2).stderr
