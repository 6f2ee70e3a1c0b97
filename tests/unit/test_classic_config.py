"""The configuration of the classic client is read as it is, and shows no password."""

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


@pytest.mark.parametrize("name", ["save_config", "write_config", "change_password"])
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
