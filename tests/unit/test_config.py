"""Where the pool is and who we are, from arguments, environment and file."""

import os
import pickle
import stat
import sys
import tomllib
import traceback
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from picas.config import (
    CouchLocation,
    Settings,
    SqliteLocation,
    config_path,
    load,
    parse_pool,
    save,
    to_toml,
)
from picas.credentials import Secret, Server
from picas.errors import ConfigError

HIDDEN = "hunter2secret"
POOL = "https://couch.example/db"


@pytest.fixture(autouse=True)
def _no_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever keyring this machine has stays out of the tests."""
    monkeypatch.setitem(sys.modules, "keyring", None)


def write(home: Path, text: str, mode: int = 0o600) -> Path:
    """Write the configuration file of a home directory."""
    path = home / ".config" / "picas" / "config.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def who(settings: Settings) -> tuple[str | None, str | None]:
    """User name and password in the clear."""
    return settings.username, settings.password.reveal() if settings.password else None


def error_text(error: BaseException) -> str:
    """All that a traceback prints, chained errors included."""
    return "".join(traceback.format_exception(error)) + repr(error) + repr(error.__context__)


# Where the file is


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, "/h/.config/picas/config.toml"),
        ({"XDG_CONFIG_HOME": "/x"}, "/x/picas/config.toml"),
        ({"XDG_CONFIG_HOME": "relative"}, "/h/.config/picas/config.toml"),
        ({"XDG_CONFIG_HOME": ""}, "/h/.config/picas/config.toml"),
        ({"PICAS_CONFIG": "/c.toml", "XDG_CONFIG_HOME": "/x"}, "/c.toml"),
        ({"PICAS_CONFIG": "~/c.toml"}, "/h/c.toml"),
        ({"PICAS_CONFIG": ""}, "/h/.config/picas/config.toml"),
    ],
)
def test_where_the_file_is(environ: Mapping[str, str], expected: str) -> None:
    """PICAS_CONFIG, else the XDG directory, else the home directory."""
    assert config_path(environ, Path("/h")) == Path(expected)
    assert config_path({"HOME": "/h", **environ}) == Path(expected)


def test_a_job_without_a_home_has_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch job whose user has no home directory is no error."""

    def fail() -> Path:
        raise RuntimeError("no home")

    monkeypatch.setattr(Path, "home", fail)
    assert config_path({}) == Path("/.config/picas/config.toml")


# Pools


@pytest.mark.parametrize(
    ("url", "path", "shown"),
    [
        ("sqlite:///picas.db", "picas.db", "sqlite:///picas.db"),
        ("sqlite:////var/picas.db", "/var/picas.db", "sqlite:////var/picas.db"),
        ("sqlite:picas.db", "picas.db", "sqlite:///picas.db"),
        ("sqlite:/var/p", "/var/p", "sqlite:////var/p"),
        ("SQLite:///x", "x", "sqlite:///x"),
        ("a/b.db", "a/b.db", "sqlite:///a/b.db"),
        ("/a b.sqlite", "/a b.sqlite", "sqlite:////a b.sqlite"),
        ("./jobs:1.db", "jobs:1.db", "sqlite:///jobs:1.db"),
        ("~/p.db", "/h/p.db", "sqlite:////h/p.db"),
        ("sqlite:~/p", "/h/p", "sqlite:////h/p"),
    ],
)
def test_embedded_pools(url: str, path: str, shown: str) -> None:
    """Every way to name a file; the URL shown names the same file."""
    location = parse_pool(url, Path("/h"))
    assert location == SqliteLocation(Path(path))
    assert (location.kind, location.url) == ("sqlite", shown)
    assert parse_pool(shown) == location


@pytest.mark.parametrize(
    ("url", "base_url", "database", "username", "password"),
    [
        ("https://h/db", "https://h", "db", None, None),
        ("HTTPS://H:443/db/", "https://h", "db", None, None),
        ("http://h:5984/db", "http://h:5984", "db", None, None),
        ("http://h:/db", "http://h", "db", None, None),
        ("https://u@h/db", "https://h", "db", "u", None),
        ("https://u:@h/db", "https://h", "db", "u", None),
        ("https://u:p@h/db", "https://h", "db", "u", "p"),
        ("https://u:p:q@h/db", "https://h", "db", "u", "p:q"),
        ("https://u%40x:p%2F%C3%A9%3A+@h/db", "https://h", "db", "u@x", "p/é:+"),
        ("https://u:p@ss@h/db", "https://h", "db", "u", "p@ss"),
        ("http://u:p@[::1]:5984/db", "http://[::1]:5984", "db", "u", "p"),
        ("https://[FE80::1]/db", "https://[fe80::1]", "db", None, None),
        ("https://h/couch/db", "https://h/couch", "db", None, None),
        ("https://h/a/b%20c/db/", "https://h/a/b%20c", "db", None, None),
        ("https://h/a%2Fb+c", "https://h", "a/b+c", None, None),
        ("https://h/a_$()+-1", "https://h", "a_$()+-1", None, None),
    ],
)
def test_couchdb_pools(
    url: str, base_url: str, database: str, username: str | None, password: str | None
) -> None:
    """User, host, prefix and database come apart; the URL shown keeps no user or password."""
    location = parse_pool(url)
    assert isinstance(location, CouchLocation)
    assert (location.kind, location.base_url, location.database) == ("couchdb", base_url, database)
    assert location.username == username
    assert location.password == (Secret(password) if password else None)
    again = parse_pool(location.url)
    assert isinstance(again, CouchLocation)
    assert (again.base_url, again.database, again.username) == (base_url, database, None)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_password_can_be_written_in_a_url(password: str) -> None:
    """Percent-encoding carries every password through."""
    location = parse_pool(f"https://u:{quote(password, safe='')}@h/db")
    assert isinstance(location, CouchLocation)
    assert location.password == Secret(password)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "is not a pool"),
        ("jobs", "is not a pool"),
        (f"u{HIDDEN}@h/db", "is not a pool"),
        (f"postgres://u:{HIDDEN}@h/db", "cannot begin with 'postgres:'"),
        (f"user:{HIDDEN}@h/db", "cannot begin with 'user:'"),
        (f"user:{HIDDEN}@h/x.db", "cannot begin with 'user:'"),
        ("localhost:5984/db", "cannot begin with 'localhost:'"),
        ("sqlite:", "names no file"),
        ("sqlite:///", "names no file"),
        ("sqlite:///dir/", "names no file"),
        ("sqlite://x.db", "three slashes"),
        ("sqlite:///:memory:", "in memory"),
        (f"https://u:{HIDDEN}@h", "names no database"),
        (f"https://u:{HIDDEN}@h/", "names no database"),
        (f"https://u:{HIDDEN}@h:5984//", "names no database"),
        (f"https://u:{HIDDEN}@/db", "names no host"),
        (f"https://u:{HIDDEN}@h/Db", "'Db' cannot be a database"),
        (f"https://u:{HIDDEN}@h/_users", "'_users' cannot be a database"),
        (f"https://u:{HIDDEN}@h/1a", "'1a' cannot be a database"),
        (f"https://u:{HIDDEN}@h/a%20b", "'a b' cannot be a database"),
        (f"https://u:{HIDDEN}@h:70000/db", "between 1 and 65535"),
        (f"https://u:{HIDDEN}@h:0/db", "between 1 and 65535"),
        (f"https://u:{HIDDEN}@h:{'9' * 5000}/db", "cannot be understood"),
        (f"https://u:{HIDDEN}@h:{HIDDEN}/db", "cannot be understood"),
        (f"https://u:{HIDDEN}@[::zz]/db", "is no IPv6 address"),
        (f"https://u:{HIDDEN}@[::1/db", "cannot be understood"),
        (f"https://u:{HIDDEN}@h h/db", "cannot be understood"),
        (f"https://u:{HIDDEN}@h/db?q=1", "cannot be understood"),
        (f"https://u:{HIDDEN}@h/db#x", "cannot be understood"),
        (f"https:u:{HIDDEN}@h/db", "cannot be understood"),
        (f"https://u:{HIDDEN}%ff@h/db", "not UTF-8"),
        (f"https://u:{HIDDEN}", "cannot be understood"),
        (f"https://u:{HIDDEN}/x@h/db", "%2F"),
        (f"https://u:1/{HIDDEN}@h/db", "%2F"),
        (f"https://u:1?{HIDDEN}@h/db", "%2F"),
        (f"https://u:x#{HIDDEN}@h/db", "%2F"),
        (f"https://u:[{HIDDEN}/@h/db", "cannot be understood"),
        (f"https://u:\uff0f{HIDDEN}/@h/db", "cannot be understood"),
    ],
)
def test_a_wrong_url_is_told_without_its_password(url: str, message: str) -> None:
    """The error says what is wrong and never quotes the password, chained errors included."""
    with pytest.raises(ConfigError) as caught:
        parse_pool(url)
    assert message in str(caught.value)
    assert HIDDEN not in error_text(caught.value)


# Precedence


@pytest.mark.parametrize(
    ("argument", "environment", "in_file", "expected", "source"),
    [
        (None, None, None, "sqlite:///picas.db", "default"),
        (None, None, "f.db", "sqlite:///f.db", "file"),
        (None, "e.db", "f.db", "sqlite:///e.db", "environment"),
        ("a.db", "e.db", "f.db", "sqlite:///a.db", "argument"),
        (None, "", "f.db", "sqlite:///f.db", "file"),
        (None, None, "", "sqlite:///picas.db", "default"),
        ("a.db", "no pool", "no pool", "sqlite:///a.db", "argument"),
    ],
)
def test_which_pool(
    argument: str | None,
    environment: str | None,
    in_file: str | None,
    expected: str,
    source: str,
    tmp_path: Path,
) -> None:
    """Argument, environment, file, default; an empty variable or value counts as none."""
    if in_file is not None:
        path = write(tmp_path, f'pool = "{in_file}"\n')
        source = source.replace("file", f"file {path}")
    settings = load(argument, {} if environment is None else {"PICAS_POOL": environment}, tmp_path)
    assert settings.pool.url == expected
    assert settings.sources == {"pool": source}


@pytest.mark.parametrize(
    ("argument", "environ", "in_file", "expected"),
    [
        ("https://u:1@couch.example/db", "ev2", "fv3", ("u", "1")),
        ("https://u@couch.example/db", "e-2", "f-3", ("u", "2")),
        ("https://u@couch.example/db", "e--", "fu3", ("u", "3")),
        (POOL, "ee2", "ff3", ("e", "2")),
        (POOL, "e-2", "ff3", ("f", "2")),
        (POOL, "ee-", "f-3", ("e", "3")),
        (POOL, "ee-", "ff3", ("e", None)),
        (POOL, "e--", "ff3", ("f", "3")),
        (POOL, "e--", "f--", (None, None)),
        ("https://u@couch.example/db", "ev2", "fu3", ("u", "3")),
    ],
)
def test_who_we_are(
    argument: str,
    environ: str,
    in_file: str,
    expected: tuple[str | None, str | None],
    tmp_path: Path,
) -> None:
    """URL, environment, file; a password is not taken from beside another user's name."""
    variables = {"PICAS_USERNAME": environ[1].strip("-"), "PICAS_PASSWORD": environ[2].strip("-")}
    values = {"username": in_file[1].strip("-"), "password": in_file[2].strip("-")}
    write(tmp_path, to_toml({"pool": POOL, **values}))
    assert who(load(argument, variables, tmp_path)) == expected


@pytest.mark.parametrize(
    ("pool", "expected"),
    [
        ("https://couch.example/other", ("f", "3")),
        ("https://couch.example:443/x/db", ("f", "3")),
        ("https://COUCH.example/db", ("f", "3")),
        ("http://couch.example/db", (None, None)),
        ("https://couch.example:444/db", (None, None)),
        ("https://couch.example.evil.example/db", (None, None)),
    ],
)
@pytest.mark.parametrize("inside", [True, False], ids=["inside the URL", "beside the URL"])
def test_the_files_password_stays_with_its_server(
    pool: str, expected: tuple[str | None, str | None], inside: bool, tmp_path: Path
) -> None:
    """User and password of the file go to the scheme, host and port of its pool only."""
    if inside:
        write(tmp_path, 'pool = "https://f:3@couch.example/db"\n')
    else:
        write(tmp_path, to_toml({"pool": POOL, "username": "f", "password": "3"}))
    settings = load(pool, {}, tmp_path)
    assert who(settings) == expected
    assert any("are not used" in line for line in settings.warnings) == (expected[1] is None)


def test_a_file_without_a_server_gives_no_password(tmp_path: Path) -> None:
    """A password in a file that names no server is for none, and the person is told."""
    write(tmp_path, 'username = "f"\npassword = "3"\n')
    settings = load(POOL, {}, tmp_path)
    assert who(settings) == (None, None)
    assert "names no server" in settings.warnings[0]


def test_a_broken_pool_in_the_file_does_no_harm_to_another(tmp_path: Path) -> None:
    """A pool that was not asked for need not be right; what stands beside it is for no server."""
    write(tmp_path, 'pool = "https://h"\nusername = "f"\npassword = "3"\n')
    assert who(load(POOL, {}, tmp_path)) == (None, None)


def test_the_environments_password_stays_with_its_pool(tmp_path: Path) -> None:
    """With PICAS_POOL on one server, PICAS_PASSWORD does not go to another one."""
    environ = {"PICAS_USERNAME": "e", "PICAS_PASSWORD": "2"}
    assert who(load("https://any.example/db", environ, tmp_path)) == ("e", "2")
    environ["PICAS_POOL"] = "sqlite:///x.db"
    assert who(load("https://any.example/db", environ, tmp_path)) == ("e", "2")
    environ["PICAS_POOL"] = POOL
    assert who(load(POOL, environ, tmp_path)) == ("e", "2")
    assert who(load("https://other.example/db", environ, tmp_path)) == (None, None)


def test_netrc_comes_after_the_file(tmp_path: Path) -> None:
    """NETRC, else the one in the home directory, for what URL, environment and file lack."""
    path = tmp_path / ".netrc"
    path.write_text("machine couch.example login n password 4\n")
    path.chmod(0o600)
    settings = load(POOL, {}, tmp_path)
    assert who(settings) == ("n", "4")
    assert settings.sources["password"] == f"netrc {path}"
    assert who(load(POOL, {"NETRC": str(tmp_path / "none")}, tmp_path)) == (None, None)
    moved = path.rename(tmp_path / "moved")
    assert who(load(POOL, {"NETRC": str(moved)}, tmp_path)) == ("n", "4")
    write(tmp_path, to_toml({"pool": POOL, "username": "f", "password": "3"}))
    assert who(load(POOL, {"NETRC": str(moved)}, tmp_path)) == ("f", "3")


def test_an_embedded_pool_has_no_user(tmp_path: Path) -> None:
    """No credentials are looked for where there is no server."""
    settings = load("x.db", {"PICAS_USERNAME": "e", "PICAS_PASSWORD": "2"}, tmp_path)
    assert who(settings) == (None, None)


def test_sources_say_where_each_setting_came_from(tmp_path: Path) -> None:
    """Each setting that was found has its source, others have none."""
    path = write(tmp_path, to_toml({"pool": "https://u@couch.example/db", "ca_file": "ca.pem"}))
    settings = load(None, {"PICAS_PASSWORD": "2"}, tmp_path)
    assert settings.sources == {
        "pool": f"file {path}",
        "username": "pool URL",
        "password": "environment",
        "ca_file": f"file {path}",
    }
    assert settings.ca_file == path.parent / "ca.pem"


@pytest.mark.parametrize(
    ("pool", "warned"),
    [
        ("http://couch.example:5984/db", True),
        ("http://localhost:5984/db", False),
        ("http://127.0.0.1:5984/db", False),
        ("http://[::1]:5984/db", False),
        ("https://couch.example/db", False),
    ],
)
def test_an_unencrypted_password_is_warned_of(pool: str, warned: bool, tmp_path: Path) -> None:
    """A password over plain http to another host gets a line, and without a password none."""
    settings = load(pool, {"PICAS_USERNAME": "e", "PICAS_PASSWORD": HIDDEN}, tmp_path)
    assert [("unencrypted" in line) for line in settings.warnings] == [True] * warned
    assert HIDDEN not in "".join(settings.warnings)
    assert load(pool, {"PICAS_USERNAME": "e"}, tmp_path).warnings == ()


# The file


def test_a_misspelt_key_is_told(tmp_path: Path) -> None:
    """The error names the key, the likely one and all known ones."""
    path = write(tmp_path, f'pasword = "{HIDDEN}"\n')
    with pytest.raises(ConfigError) as caught:
        load(None, {}, tmp_path)
    text = str(caught.value)
    assert f"unknown key 'pasword' in {path}" in text
    assert "did you mean 'password'? " in text
    assert "pool, username, password, ca_file" in text
    assert HIDDEN not in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("zzz = 1", "unknown key 'zzz'"),
        ("password = 123456", "'password' in .* must be a text, not int"),
        ("[pool]\nurl = 'x.db'", "'pool' in .* must be a text, not dict"),
        (f"password = {HIDDEN}", "is not valid TOML"),
        (f"password = '{HIDDEN}\n'", "is not valid TOML"),
        (f"password = {'9' * 5000}", "is not valid TOML"),
        (f"pool = 'https://u:{HIDDEN}@h'", "pool in .*: the pool's URL names no database"),
    ],
)
def test_a_broken_file_is_told(text: str, message: str, tmp_path: Path) -> None:
    """The error names the file and what is wrong, and quotes no value."""
    path = write(tmp_path, text)
    with pytest.raises(ConfigError, match=message) as caught:
        load(None, {}, tmp_path)
    assert str(path) in str(caught.value)
    assert HIDDEN not in error_text(caught.value)


def test_a_file_that_is_not_utf8_is_told(tmp_path: Path) -> None:
    """Bytes that are no text are an error that names the file."""
    path = write(tmp_path, "")
    path.write_bytes(b'pool = "\xff"')
    with pytest.raises(ConfigError, match="is not valid TOML"):
        load(None, {}, tmp_path)


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    """A directory in the file's place is an error, not a missing file."""
    with pytest.raises(ConfigError, match=f"cannot read {tmp_path}: Is a directory"):
        load(None, {"PICAS_CONFIG": str(tmp_path)}, tmp_path)


def test_a_named_file_that_is_missing_is_warned_of(tmp_path: Path) -> None:
    """PICAS_CONFIG that leads nowhere is probably a slip; the other files' absence is not."""
    settings = load(None, {"PICAS_CONFIG": str(tmp_path / "none.toml")}, tmp_path)
    assert "none.toml, which does not exist" in settings.warnings[0]
    assert load(None, {"PICAS_CONFIG": os.devnull}, tmp_path).warnings == ()
    assert load(None, {}, tmp_path).warnings == ()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o610, 0o601, 0o644])
@pytest.mark.parametrize(
    "text", [f'password = "{HIDDEN}"', f'pool = "https://u:{HIDDEN}@couch.example/db"']
)
def test_a_password_open_to_others_is_refused(text: str, mode: int, tmp_path: Path) -> None:
    """Any right for group or others is refused, with the command that takes it away."""
    path = write(tmp_path, text, mode)
    with pytest.raises(ConfigError, match=f"chmod 600 {path}") as caught:
        load("x.db", {}, tmp_path)
    assert HIDDEN not in error_text(caught.value)
    path.chmod(0o400)
    load("x.db", {}, tmp_path)


def test_a_file_without_a_password_may_be_open(tmp_path: Path) -> None:
    """Pool and user name are no secrets."""
    write(tmp_path, 'pool = "https://u@couch.example/db"\nusername = "u"\n', 0o644)
    assert load(None, {}, tmp_path).username == "u"


# Secrets stay out of sight


def test_settings_never_show_the_password(tmp_path: Path) -> None:
    """No repr, text or URL of settings and locations holds the password; pickling fails."""
    settings = load(f"http://u:{HIDDEN}@couch.example/db", {}, tmp_path)
    assert who(settings) == ("u", HIDDEN)
    shown = f"{settings!r} {settings} {settings.pool.url} {settings.sources} {settings.warnings}"
    assert HIDDEN not in shown
    assert HIDDEN not in repr(parse_pool(f"http://u:{HIDDEN}@couch.example/db"))
    with pytest.raises(TypeError) as caught:
        pickle.dumps(settings)
    assert HIDDEN not in error_text(caught.value)


def test_settings_without_a_password_are_pickled(tmp_path: Path) -> None:
    """Nothing but the secret stands in the way of another process."""
    settings = load("https://u@couch.example/db", {}, tmp_path)
    assert pickle.loads(pickle.dumps(settings)) == settings


# Writing the file


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"])),
        st.text(st.characters(exclude_categories=["Cs"])) | st.integers() | st.booleans(),
    )
)
def test_toml_round_trip(values: dict[str, str | int | bool]) -> None:
    """Whatever is written is read again, of the same types."""
    again = tomllib.loads(to_toml(values))
    assert again == values
    assert [type(v) for v in again.values()] == [type(v) for v in values.values()]


@pytest.mark.parametrize("value", [1.5, None, ["x"], "\udcff"])
def test_toml_refuses_other_values(value: object) -> None:
    """What the small writer cannot write is an error that names the key."""
    with pytest.raises(ConfigError, match="'k' cannot be written"):
        to_toml({"k": value})  # type: ignore[dict-item]


def test_saved_settings_are_loaded_again(tmp_path: Path) -> None:
    """What save writes, load reads; a secret is written in the clear, an empty value not at all."""
    path = config_path({}, tmp_path)
    save(path, {"pool": POOL, "username": "u", "password": Secret('a"\\\n'), "ca_file": ""})
    assert who(load(None, {}, tmp_path)) == ("u", 'a"\\\n')
    assert "ca_file" not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_save_closes_an_open_file(tmp_path: Path) -> None:
    """A file that was open to others is replaced by one that is not."""
    path = write(tmp_path, 'pool = "x.db"\n', 0o644)
    before = os.umask(0o022)
    try:
        save(path, {"pool": POOL, "password": HIDDEN})
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_save_follows_a_symbolic_link(tmp_path: Path) -> None:
    """The link stays a link; the file it points to is written, also where it did not exist."""
    link = tmp_path / "config.toml"
    link.symlink_to(tmp_path / "dotfiles" / "picas.toml")
    for pool in ("a.db", "b.db"):
        save(link, {"pool": pool})
        assert link.is_symlink()
        assert (tmp_path / "dotfiles" / "picas.toml").read_text() == f'pool = "{pool}"\n'


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"pol": "x"}, "did you mean 'pool'"),
        ({"pool": 1}, "'pool' in the configuration must be a text, not int"),
        ({"password": "\udcff"}, "'password' cannot be written"),
    ],
)
def test_save_refuses_what_load_would(
    values: Mapping[str, object], message: str, tmp_path: Path
) -> None:
    """A bad key or value is refused before anything is written."""
    with pytest.raises(ConfigError, match=message):
        save(tmp_path / "config.toml", values)
    assert list(tmp_path.iterdir()) == []


def test_save_reports_what_cannot_be_written(tmp_path: Path) -> None:
    """A path that no file can have is an error that names it; special files are left alone."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot write .*: Not a directory"):
        save(tmp_path / "file" / "config.toml", {"pool": "x.db"})
    with pytest.raises(ConfigError, match="not a regular file"):
        save(Path(os.devnull), {"pool": "x.db"})
    with pytest.raises(ConfigError, match="not a regular file"):
        save(tmp_path, {"pool": "x.db"})


def test_the_server_of_a_pool(tmp_path: Path) -> None:
    """The server that passwords belong to has its port spelt out."""
    location = load(POOL, {}, tmp_path).pool
    assert isinstance(location, CouchLocation)
    assert location.server == Server("https", "couch.example", 443)
