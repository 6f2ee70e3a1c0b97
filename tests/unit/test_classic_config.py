"""The configuration of the classic client is read as it is, and shows no password."""

import subprocess
import sys
import traceback
from pathlib import Path

import pytest
import yaml
from cryptography.fernet import Fernet

from picas import classic_config, config, crypto
from picas.errors import ConfigError
from picas.picas_config import PicasConfig, PicasConfigSchemaError

PASSWORD = "pass:w/örd"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home folder as the classic client leaves it."""
    folder = tmp_path / ".config" / "picas"
    folder.mkdir(parents=True)
    key = Fernet.generate_key()
    (folder / "key.dat").write_bytes(key)
    values = {
        "host_url": "https://couch.example.org:6984",
        "database": "mydb",
        "username": "anna",
        "encrypted_password": Fernet(key).encrypt(PASSWORD.encode()).decode(),
    }
    (folder / "conf.yml").write_text(yaml.safe_dump(values))
    return tmp_path


def conf(home: Path) -> Path:
    """The file."""
    return classic_config.default_path(home)


def test_it_stands_in_for_a_new_one(home: Path) -> None:
    """Without a configuration of ours, pool, user and password are those of the classic one."""
    found = config.load(environ={}, home=home)
    assert found.pool.url == "https://couch.example.org:6984/mydb"
    assert found.username == "anna"
    assert found.password is not None
    assert found.password.reveal() == PASSWORD
    assert found.sources["pool"] == f"file {conf(home)}"


def test_a_new_one_goes_first(home: Path) -> None:
    """And so does one that is named."""
    config.save(home / ".config" / "picas" / "config.toml", {"pool": "sqlite:///mine.db"})
    assert config.load(environ={}, home=home).pool.url == "sqlite:///mine.db"
    other = home / "other.toml"
    config.save(other, {"pool": "sqlite:///other.db"})
    assert config.load(environ={"PICAS_CONFIG": str(other)}, home=home).pool.url.endswith(
        "other.db"
    )


def test_one_that_cannot_be_read_is_passed_over(home: Path) -> None:
    """A warning says why, and an embedded pool can be used all the same."""
    (conf(home).with_name("key.dat")).write_bytes(Fernet.generate_key())
    found = config.load(environ={}, home=home)
    assert found.pool.url == config.DEFAULT_POOL
    (warning,) = found.warnings
    assert "passed over" in warning
    assert "key.dat" in warning


def write(home: Path, **changed: str) -> None:
    """Change values of the file."""
    values = yaml.safe_load(conf(home).read_text())
    conf(home).write_text(yaml.safe_dump(values | changed))


def test_a_login_in_the_url_is_left_out(home: Path) -> None:
    """As with the classic client, the user is who the file names; the URL's password is nowhere."""
    write(home, host_url="https://bob:gehe@im@couch.example.org:6984/")
    found = config.load(environ={}, home=home)
    assert (found.pool.url, found.username) == ("https://couch.example.org:6984/mydb", "anna")
    assert "im@" not in repr(classic_config.settings(conf(home))["pool"])


def test_a_password_that_is_no_text(home: Path) -> None:
    """It is told in a line, without the password, and the file passed over."""
    key = crypto.read_key(str(conf(home).with_name("key.dat")))
    write(home, encrypted_password=crypto.encrypt_password(b"hid\xffden", key).decode())
    with pytest.raises(ConfigError, match="no UTF-8 text") as caught:
        classic_config.settings(conf(home))
    assert caught.value.__cause__ is None
    assert "hid" not in "".join(traceback.format_exception(caught.value))
    assert "no UTF-8 text" in config.load(environ={}, home=home).warnings[0]


@pytest.mark.parametrize("module", ["yaml", "cryptography.fernet"])
def test_without_the_extra(home: Path, monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    """Which extra reads the file is told, and commands go on without it."""
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match="extra 'classic'"):
        classic_config.settings(conf(home))
    assert "extra 'classic'" in config.load(environ={}, home=home).warnings[0]


def test_a_host_without_a_home() -> None:
    """Worker nodes may have users that no list of users knows: the import must work there."""
    code = (
        "import os, pathlib, pwd; os.environ.pop('HOME', None)\n"
        "def unknown(uid): raise KeyError(uid)\n"
        "pwd.getpwuid = unknown\n"
        "import picas.crypto, picas.config\n"
        "print(picas.config.load('sqlite:////x.db').pool.url)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "sqlite:////x.db\n", done.stderr


def test_the_classic_class(home: Path) -> None:
    """`PicasConfig` reads the file, and masks the password."""
    found = PicasConfig(str(conf(home)))
    assert found.config["username"] == "anna"
    key = crypto.read_key(str(conf(home).with_name("key.dat")))
    assert crypto.decrypt_password(found.config["encrypted_password"], key).decode() == PASSWORD
    assert found.config["encrypted_password"] not in f"{found} {found!r}"
    found.validate_config()
    assert "No configuration" in str(PicasConfig(load=False))
    with pytest.raises(FileNotFoundError, match="picas init"):
        PicasConfig(str(home / "nothing.yml"))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("host_url: x", "'database' is missing"),
        ("- a list", "lines host_url"),
        ("host_url: 1\ndatabase: d\nusername: u\nencrypted_password: p", "'host_url' is no text"),
        (
            "host_url: h\ndatabase: d\nusername: u\nencrypted_password: p\nmore: 1",
            "no setting 'more'",
        ),
        ("a: [secret", "no YAML"),
    ],
)
def test_other_files_are_refused(home: Path, text: str, why: str) -> None:
    """In one line, with the file's name and nothing of its content."""
    conf(home).write_text(text)
    with pytest.raises(PicasConfigSchemaError, match=why) as caught:
        PicasConfig(str(conf(home)))
    assert str(conf(home)) in caught.value.message
    assert "secret" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "name", ["save_config", "write_config", "change_password", "change_couchdb_password"]
)
def test_what_is_not_offered_any_more(name: str) -> None:
    """Writing says what to use instead."""
    with pytest.raises(ConfigError, match="picas "):
        getattr(PicasConfig(load=False), name)(None)


def test_keys(tmp_path: Path) -> None:
    """A key is made once, for its owner only; a wrong one never shows what it should decrypt."""
    path = tmp_path / "deep" / "key.dat"
    crypto.generate_and_save_key(str(path))
    assert path.stat().st_mode & 0o077 == 0
    key = crypto.read_key(str(path))
    crypto.generate_and_save_key(str(path))
    assert crypto.read_key(str(path)) == key
    with pytest.raises(ConfigError, match="already"):
        crypto.generate_and_save_key(str(path), skip_if_exists=False)
    secret = crypto.encrypt_password("word", key)
    assert crypto.decrypt_password(secret, key) == b"word"
    with pytest.raises(ConfigError, match="not encrypted with this key") as caught:
        crypto.decrypt_password(secret, Fernet.generate_key())
    assert secret.decode() not in "".join(traceback.format_exception(caught.value))
    with pytest.raises(ConfigError, match="damaged"):
        crypto.decrypt_password(secret, b"short")
    with pytest.raises(ConfigError, match="cannot read the key"):
        crypto.read_key(str(tmp_path / "none"))
