"""Secrets stay out of sight, and go only to the server and user they were kept for."""

import copy
import os
import pickle
import stat
import sys
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from picas.credentials import (
    Found,
    Login,
    Secret,
    Server,
    find,
    keyring_account,
    redact,
    write_private,
)

SERVER = Server("https", "couch.example", 443)
OTHER = Server("https", "other.example", 443)
HIDDEN = "hunter2-very-secret"


@pytest.fixture(autouse=True)
def _no_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever keyring this machine has stays out of the tests."""
    monkeypatch.setitem(sys.modules, "keyring", None)


def fake_keyring(monkeypatch: pytest.MonkeyPatch, entries: dict[tuple[str, str], str]) -> None:
    """Install a keyring that holds the given entries."""
    module = ModuleType("keyring")
    module.get_password = lambda service, account: entries.get((service, account))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "keyring", module)


def netrc(tmp_path: Path, text: str, mode: int = 0o600) -> Path:
    """Write a netrc file."""
    path = tmp_path / "netrc"
    path.write_text(text)
    path.chmod(mode)
    return path


def shown(found: Found) -> tuple[str | None, str | None]:
    """User name and password in the clear."""
    return found.username, found.password.reveal() if found.password else None


def test_a_secret_is_shown_only_on_purpose() -> None:
    """Every way of printing gives stars; reveal gives the text."""
    secret = Secret(HIDDEN)
    assert [repr(secret), str(secret), f"{secret}", f"{[secret]}"] == ["***"] * 3 + ["[***]"]
    assert secret.reveal() == HIDDEN


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_secret_is_not_pickled(protocol: int) -> None:
    """Pickling fails, and the failure does not tell the secret."""
    with pytest.raises(TypeError) as caught:
        pickle.dumps(Secret(HIDDEN), protocol)
    assert HIDDEN not in str(caught.value)


def test_secrets_compare_and_copy() -> None:
    """Equal texts are equal secrets, also in sets and copies; a secret is not its text."""
    secret = Secret("a")
    assert {secret} == {Secret("a")}
    assert secret != Secret("b")
    assert secret != "a"
    assert copy.copy(secret) == secret == copy.deepcopy(secret)


def test_a_secret_survives_the_locals_of_a_traceback() -> None:
    """A traceback that prints local variables prints stars."""

    @dataclass
    class Holder:
        secret: Secret

    holder = Holder(Secret(HIDDEN))
    with pytest.raises(TypeError) as caught:
        pickle.dumps(holder.secret)
    lines = traceback.TracebackException.from_exception(caught.value, capture_locals=True).format()
    assert "***" in "".join(lines)
    assert HIDDEN not in "".join(lines) + str(asdict(holder))


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("https://u:pw@h/db", "https://u:***@h/db"),
        ("https://:pw@h/db", "https://:***@h/db"),
        ("https://u@h:5984/db", "https://u@h:5984/db"),
        ("http://[::1]:5984/db", "http://[::1]:5984/db"),
        ("http://u:pw@[::1]:5984/db", "http://u:***@[::1]:5984/db"),
        ("GET https://u:pw@h/db failed, mail a@b", "GET https://u:***@h/db failed, mail a@b"),
        ("http://u:p@h1/a,HTTP://v:q@h2/b", "http://u:***@h1/a,HTTP://v:***@h2/b"),
        ("('https://u:p@h/a', 'https://v:q@h/b')", "('https://u:***@h/a', 'https://v:***@h/b')"),
        ("https://me@mail.org:pw@h/db", "https://me@mail.org:***@h/db"),
        ("https://u:p@ss@h/db", "https://u:***@h/db"),
        ("https://u:p/a?s#s@h/db", "https://u:***@h/db"),
        ("https://u:12/3@h/db", "https://u:***@h/db"),
        ("couchdb://u:pw@h/db", "couchdb://u:***@h/db"),
        ("nothing to hide: a@b", "nothing to hide: a@b"),
    ],
)
def test_redact_hides_passwords_in_urls(text: str, safe: str) -> None:
    """The password of each URL is starred, the rest of the text stays."""
    assert redact(text) == safe


@given(st.text(min_size=1), st.sampled_from(["", "got ", "('"]))
def test_redact_hides_any_encoded_password(password: str, before: str) -> None:
    """Whatever the password, encoded as it should be, it is gone, and redacting again is idle."""
    encoded = quote(password.encode(errors="replace"), safe="")
    text = redact(f"{before}https://u:{encoded}@h/db")
    assert text == f"{before}https://u:***@h/db"
    assert redact(text) == text


def test_redact_is_quick_on_long_texts() -> None:
    """A megabyte without a password costs no more than reading it."""
    for text in ("a" * 1_000_000, "http://h:1/x " * 80_000, "://" * 300_000, ",a://b:" * 100_000):
        assert redact(text) == text


@pytest.mark.parametrize(
    ("server", "text", "private"),
    [
        (Server("https", "h", 443), "https://h", True),
        (Server("http", "h", 80), "http://h", False),
        (Server("http", "h", 5984), "http://h:5984", False),
        (Server("http", "localhost", 443), "http://localhost:443", True),
        (Server("http", "db.localhost", 80), "http://db.localhost", True),
        (Server("http", "127.8.0.1", 80), "http://127.8.0.1", True),
        (Server("http", "::1", 5984), "http://[::1]:5984", True),
        (Server("http", "10.0.0.1", 80), "http://10.0.0.1", False),
    ],
)
def test_a_server_reads_as_its_url(server: Server, text: str, private: bool) -> None:
    """The text has no default port and brackets where due; loopback counts as private."""
    assert (str(server), server.is_private) == (text, private)


@pytest.mark.parametrize(
    ("logins", "expected"),
    [
        ([Login("a", "u", Secret("1"), SERVER), Login("b", "u", Secret("2"), SERVER)], ("u", "1")),
        ([Login("a", "u", None, SERVER), Login("b", "u", Secret("2"), SERVER)], ("u", "2")),
        ([Login("a", "u", None, SERVER), Login("b", None, Secret("2"), SERVER)], ("u", "2")),
        ([Login("a", None, Secret("1"), SERVER), Login("b", "u", None, SERVER)], ("u", "1")),
        ([Login("a", "u", None, SERVER), Login("b", "v", Secret("2"), SERVER)], ("u", None)),
        ([Login("a", "u", Secret("1"), OTHER)], (None, None)),
        ([Login("a", "u", Secret("1"), None)], (None, None)),
        ([Login("a", "u", Secret("1"), anywhere=True)], ("u", "1")),
        ([Login("a", "u", Secret("1"), SERVER._replace(scheme="http"))], (None, None)),
        ([Login("a", "u", Secret("1"), SERVER._replace(port=6984))], (None, None)),
    ],
)
def test_a_login_is_for_one_server_and_user(
    logins: list[Login], expected: tuple[str | None, str | None], tmp_path: Path
) -> None:
    """The strongest source wins; nothing goes to another server, or with another user's name."""
    assert shown(find(SERVER, logins, tmp_path / "none")) == expected


def test_the_reason_for_leaving_a_password_is_told(tmp_path: Path) -> None:
    """A password of another server or user that is not used is explained, and not shown."""
    logins = [
        Login("environment", "u", None, SERVER),
        Login("file a", "u", Secret(HIDDEN), OTHER),
        Login("file b", "v", Secret(HIDDEN), SERVER),
        Login("file c", "u", Secret(HIDDEN)),
    ]
    lines = find(SERVER, logins, tmp_path / "none").warnings(SERVER)
    assert "for https://other.example, not for https://couch.example" in lines[0]
    assert "names no server" in lines[1]
    assert "it is for the user 'v', not for 'u'" in lines[2]
    assert HIDDEN not in "".join(lines)


def test_a_password_without_a_user_is_pointed_out(tmp_path: Path) -> None:
    """A password alone logs nobody in, and the person is told so."""
    found = find(SERVER, [Login("environment", None, Secret("x"), SERVER)], tmp_path / "none")
    assert "no user name" in found.warnings(SERVER)[0]


def test_netrc_gives_user_and_password_for_its_host(tmp_path: Path) -> None:
    """The entry of the host is used, another host's is not."""
    path = netrc(
        tmp_path,
        "machine other.example login o password 1\nmachine Couch.Example login u password 2\n",
    )
    found = find(SERVER, [], path)
    assert shown(found) == ("u", "2")
    assert found.sources == {"username": f"netrc {path}", "password": f"netrc {path}"}


def test_the_netrc_default_entry_is_not_used(tmp_path: Path) -> None:
    """A default entry would send its password to any server at all."""
    path = netrc(tmp_path, "default login u password p\n")
    assert shown(find(SERVER, [], path)) == (None, None)
    assert shown(find(Server("https", "default", 443), [], path)) == (None, None)


def test_netrc_does_not_serve_another_user(tmp_path: Path) -> None:
    """With a user name given, another user's netrc entry stays unused."""
    path = netrc(tmp_path, "machine couch.example login u password p\n")
    assert shown(find(SERVER, [Login("environment", "v", anywhere=True)], path)) == ("v", None)
    assert shown(find(SERVER, [Login("environment", "u", anywhere=True)], path)) == ("u", "p")


def test_netrc_open_to_others_is_not_used(tmp_path: Path) -> None:
    """A netrc that others may read is left alone, with the command that mends it."""
    path = netrc(tmp_path, f"machine couch.example login u password {HIDDEN}\n", 0o640)
    found = find(SERVER, [], path)
    assert found.password is None
    assert f"chmod 600 {path}" in found.reasons[0]


def test_a_broken_netrc_is_told_without_its_text(tmp_path: Path) -> None:
    """The parser's own message may quote a password; ours gives the line."""
    path = netrc(tmp_path, f"machine couch.example login u\npassword two {HIDDEN}\n")
    found = find(SERVER, [], path)
    assert found.password is None
    assert "cannot be understood" in found.reasons[0]
    assert HIDDEN not in found.reasons[0]


def test_an_unreadable_netrc_is_told(tmp_path: Path) -> None:
    """A netrc that cannot be read is a reason, not a crash."""
    assert "IsADirectoryError" in find(SERVER, [], tmp_path).reasons[0]


def test_the_keyring_is_asked_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The keyring's password for this user on this server is used if there is no other."""
    account = ("picas", "u@https://couch.example")
    assert keyring_account(SERVER, "u") == account[1]
    fake_keyring(monkeypatch, {account: "k"})
    user = Login("environment", "u", anywhere=True)
    found = find(SERVER, [user], tmp_path / "none")
    assert shown(found) == ("u", "k")
    assert found.sources["password"] == "keyring"
    assert shown(find(OTHER, [user], tmp_path / "none")) == ("u", None)
    path = netrc(tmp_path, "machine couch.example login u password n\n")
    assert shown(find(SERVER, [user], path)) == ("u", "n")


def test_a_failing_keyring_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend that fails in its own way leaves us without a password, nothing worse."""
    module = ModuleType("keyring")

    def fail(service: str, account: str) -> str:
        raise RuntimeError("no D-Bus here")

    module.get_password = fail  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "keyring", module)
    user = Login("environment", "u", anywhere=True)
    assert shown(find(SERVER, [user], tmp_path / "none")) == ("u", None)


def test_a_private_file_is_private_whatever_the_umask(tmp_path: Path) -> None:
    """File 0600, new directories 0700, nothing left beside it."""
    path = tmp_path / "a" / "b" / "file"
    before = os.umask(0o022)
    try:
        write_private(path, b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [stat.S_IMODE(d.stat().st_mode) for d in (path.parent, path.parent.parent)] == [
        0o700,
        0o700,
    ]
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_private_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the disk fails, the old content stays and the temporary file is gone."""
    path = tmp_path / "file"
    path.write_text("old")

    def fail(descriptor: int) -> None:
        [temporary] = [p for p in tmp_path.iterdir() if p != path]
        assert stat.S_IMODE(temporary.stat().st_mode) == 0o600
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_private(path, b"new")
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]
