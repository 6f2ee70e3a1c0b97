"""The fractals example: it builds without warnings, draws the truth, and its PNGs are PNGs."""

import os
import shutil
import stat
import struct
import subprocess
import sys
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "fractals"
INSIDE = (6, 6, 14)
FULL_DISK = 8192
"""Bytes a file may grow to in the test of a disk that fills up."""

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler (cc)")


@dataclass(frozen=True)
class Image:
    """A decoded picture: its size and the bytes of its pixels."""

    width: int
    height: int
    data: bytes

    def at(self, column: int, row: int) -> tuple[int, ...]:
        """The colour of one pixel."""
        start = 3 * (row * self.width + column)
        return tuple(self.data[start : start + 3])

    def pixels(self) -> list[tuple[int, ...]]:
        """All colours, row by row."""
        return [tuple(self.data[i : i + 3]) for i in range(0, len(self.data), 3)]


def run(
    command: Sequence[str | Path], cwd: Path, *, file_limit: int | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, with its output as text."""
    words = [str(word) for word in command]
    if file_limit is not None:
        blocks = file_limit // 512
        # XFSZ is ignored so that the write fails, as on a full disk, instead of killing.
        script = f"trap '' XFSZ; ulimit -f {blocks}; exec \"$@\""
        words = ["sh", "-c", script, "sh", *words]
    return subprocess.run(words, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)


def decode_ppm(file: Path) -> Image:
    """Read a P6 file as the program writes it."""
    magic, size, maximum, data = file.read_bytes().split(b"\n", 3)
    width, height = (int(word) for word in size.split())
    assert (magic, maximum) == (b"P6", b"255")
    assert len(data) == 3 * width * height
    return Image(width, height, data)


def decode_png(file: Path) -> Image:
    """Read an unfiltered RGB PNG by hand, every checksum compared."""
    data = file.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, place = [], 8
    while place < len(data):
        (length,) = struct.unpack_from(">I", data, place)
        kind, body = data[place + 4 : place + 8], data[place + 8 : place + 8 + length]
        (checksum,) = struct.unpack_from(">I", data, place + 8 + length)
        assert checksum == zlib.crc32(kind + body)
        chunks.append((kind, body))
        place += 12 + length
    assert [kind for kind, _ in chunks] == [b"IHDR", b"IDAT", b"IEND"]
    width, height, *format_ = struct.unpack(">IIBBBBB", chunks[0][1])
    assert format_ == [8, 2, 0, 0, 0]
    raw, stride = zlib.decompress(chunks[1][1]), 1 + 3 * width
    rows = [raw[start : start + stride] for start in range(0, len(raw), stride)]
    assert len(rows) == height
    assert all(len(row) == stride and row[0] == 0 for row in rows)
    return Image(width, height, b"".join(row[1:] for row in rows))


@pytest.fixture(scope="module")
def fractals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, built as its first lines say, with every warning on."""
    program = tmp_path_factory.mktemp("build") / "fractals"
    flags = ["-O2", "-Wall", "-Wextra", "-Werror"]
    built = run(["cc", *flags, "-o", program, FOLDER / "fractals.c", "-lm"], program.parent)
    assert (built.returncode, built.stdout, built.stderr) == (0, "", "")
    return program


def draw(fractals: Path, folder: Path, *options: str, name: str = "out.ppm") -> Image:
    """Draw a picture and decode it."""
    done = run([fractals, *options, "-o", name], folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return decode_ppm(folder / name)


def topng(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the converter in a folder."""
    return run([sys.executable, FOLDER / "topng.py", *arguments], folder)


def escapes(z: complex, q: float, iterations: int) -> bool:
    """Whether a point leaves the circle of radius 256 in so many steps."""
    for _ in range(iterations):
        if abs(z) > 256:
            return True
        z = z * z + complex(q, 0.57)
    return False


def test_strict_c99_has_no_warnings(tmp_path: Path) -> None:
    """The source is plain C99: pedantic compilers are silent too."""
    flags = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Werror"]
    built = run(["cc", *flags, "-c", "-o", "f.o", FOLDER / "fractals.c"], tmp_path)
    assert (built.returncode, built.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_makefile_builds_the_program(tmp_path: Path) -> None:
    """``make`` in a copy of the folder gives the program."""
    for name in ("Makefile", "fractals.c"):
        shutil.copy(FOLDER / name, tmp_path)
    assert run(["make"], tmp_path).returncode == 0
    assert os.access(tmp_path / "fractals", os.X_OK)


def test_centre_is_inside_and_corners_outside(fractals: Path, tmp_path: Path) -> None:
    """For q = 0.1 the critical point 0 stays for ever, and every |z| > 2 escapes."""
    image = draw(fractals, tmp_path, "-q", "0.1", "-d", "65", "-m", "2000")
    assert (image.width, image.height) == (65, 65)
    assert image.at(32, 32) == INSIDE
    # The attracting fixed point of z*z + c: its neighbourhood never escapes.
    fixed = (1 - (1 - 4 * complex(0.1, 0.57)) ** 0.5) / 2
    column, row = (int((part / 1.4 + 1) / 2 * 65) for part in (fixed.real, -fixed.imag))
    assert image.at(column, row) == INSIDE
    corners = [image.at(x, y) for x in (0, 64) for y in (0, 64)]
    assert INSIDE not in corners
    assert len(set(image.pixels())) > 100


def test_every_pixel_agrees_with_the_formula(fractals: Path, tmp_path: Path) -> None:
    """A pixel is dark exactly where none of its four points escapes, the way up that it should."""
    side, q, iterations = 48, 0.26, 60
    image = draw(fractals, tmp_path, "-q", str(q), "-d", str(side), "-m", str(iterations))

    def place(sample: int) -> float:
        return 1.4 * ((sample + 0.5) / side - 1)

    for row in range(side):
        for column in range(side):
            points = [
                complex(place(2 * column + i), -place(2 * row + j))
                for i in range(2)
                for j in range(2)
            ]
            stays = not any(escapes(z, q, iterations) for z in points)
            assert (image.at(column, row) == INSIDE) == stays, (column, row)


def test_picture_is_symmetric_about_its_centre(fractals: Path, tmp_path: Path) -> None:
    """Z and -z have the same fate in every Julia set of z*z + c, to the last bit."""
    image = draw(fractals, tmp_path, "-q", "0.18", "-d", "40")
    assert image.pixels() == image.pixels()[::-1]


def test_iterations_and_q_change_the_picture(fractals: Path, tmp_path: Path) -> None:
    """Both parameters do something; fewer iterations leave more points inside."""
    few = draw(fractals, tmp_path, "-q", "0.26", "-d", "64", "-m", "50")
    many = draw(fractals, tmp_path, "-q", "0.26", "-d", "64", "-m", "2000")
    other = draw(fractals, tmp_path, "-q", "-0.5", "-d", "64", "-m", "2000")
    assert few.pixels().count(INSIDE) > many.pixels().count(INSIDE)
    assert other.data != many.data


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["-q", "much", "-o", "x"], "-q wants a number from -2 to 2, not 'much'"),
        (["-q", "nan", "-o", "x"], "-q wants"),
        (["-q", "2.5", "-o", "x"], "-q wants"),
        (["-q", "", "-o", "x"], "-q wants"),
        (["-d", "0", "-o", "x"], "-d wants a whole number from 1 to 16384, not '0'"),
        (["-d", "16385", "-o", "x"], "-d wants"),
        (["-d", "256px", "-o", "x"], "not '256px'"),
        (["-m", "-4", "-o", "x"], "-m wants a whole number from 1 to 100000000, not '-4'"),
        (["-m", "99999999999999999999", "-o", "x"], "-m wants"),
        (["-o", ""], "-o wants the name of a file"),
        (["-o"], "a value is missing after '-o'"),
        (["-z", "-o", "x"], "there is no option '-z'"),
        (["-o", "x", "y"], "only options are understood, not 'y'"),
        (["-q", "0.1"], "the output file is missing"),
    ],
)
def test_bad_options_cost_one_line_and_status_2(
    fractals: Path, tmp_path: Path, options: list[str], says: str
) -> None:
    """Every wrong option is named in one line, and no file appears."""
    done = run([fractals, *options], tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("fractals: ")
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_help_names_every_option(fractals: Path, tmp_path: Path) -> None:
    """``-h`` explains the options and is no error."""
    done = run([fractals, "-h"], tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(f"-{letter} " in done.stdout for letter in "qdmoh")


def test_output_that_cannot_be_made_is_status_1(fractals: Path, tmp_path: Path) -> None:
    """A folder that is missing, or stands where the picture should go, is an I/O error."""
    (tmp_path / "taken").mkdir()
    for name in ("missing/out.ppm", "taken"):
        done = run([fractals, "-d", "4", "-o", name], tmp_path)
        assert done.returncode == 1
        assert done.stderr.startswith("fractals: cannot ")
        assert done.stderr.count("\n") == 1
    assert [file.name for file in tmp_path.iterdir()] == ["taken"]


def test_full_disk_leaves_the_old_picture(fractals: Path, tmp_path: Path) -> None:
    """Where writing fails half way, nothing partial appears and what was there stays."""
    (tmp_path / "out.ppm").write_text("the old one")
    options = ["-d", "128", "-m", "20", "-o", "out.ppm"]
    done = run([fractals, *options], tmp_path, file_limit=FULL_DISK)
    assert done.returncode == 1
    assert "cannot write out.ppm.part: File too large" in done.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["out.ppm"]
    assert (tmp_path / "out.ppm").read_text() == "the old one"


def test_png_holds_the_same_pixels(fractals: Path, tmp_path: Path) -> None:
    """Many files in one call: each gets a PNG beside it with exactly its pixels."""
    images = {
        side: draw(fractals, tmp_path, "-d", str(side), "-m", "50", name=f"p{side}.ppm")
        for side in (1, 31, 64)
    }
    done = topng(tmp_path, "p1.ppm", "p31.ppm", "p64.ppm")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    for side, image in images.items():
        assert decode_png(tmp_path / f"p{side}.png") == image
    assert list(tmp_path.glob("*.part")) == []


def test_png_of_a_hand_made_picture(tmp_path: Path) -> None:
    """A comment in the header and a width that differs from the height are understood."""
    data = bytes(range(18))
    (tmp_path / "a.ppm").write_bytes(b"P6 # by hand\n3 # wide\n2\n255\n" + data)
    assert topng(tmp_path, "a.ppm").returncode == 0
    assert decode_png(tmp_path / "a.png") == Image(3, 2, data)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"P5\n1 1\n255\n\0", "is not a binary PPM"),
        (b"", "is not a binary PPM"),
        (b"P6\n2 2\n255\n\0\0\0", "take 12 bytes, it holds 3"),
        (b"P6\n1 1\n65535\n\0\0\0\0\0\0", "colours up to 65535"),
        (b"P6\n0 4\n255\n", "is empty"),
        (None, "cannot be read: No such file"),
    ],
)
def test_bad_picture_is_named_and_the_others_done(
    tmp_path: Path, content: bytes | None, says: str
) -> None:
    """One line for the file that is bad, a PNG for the one behind it, status 1."""
    if content is not None:
        (tmp_path / "bad.ppm").write_bytes(content)
    (tmp_path / "good.ppm").write_bytes(b"P6\n1 1\n255\n\x01\x02\x03")
    done = topng(tmp_path, "bad.ppm", "good.ppm")
    assert done.returncode == 1
    assert done.stderr.startswith("topng: bad.ppm: ")
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert decode_png(tmp_path / "good.png").at(0, 0) == (1, 2, 3)
    assert not (tmp_path / "bad.png").exists()


def test_contact_sheet_shows_all_at_one_size(fractals: Path, tmp_path: Path) -> None:
    """Pictures of several sizes become thumbnails of one size, in a grid in the order given."""
    names = [f"p{side}.ppm" for side in (20, 40, 160)]
    for name in names:
        draw(fractals, tmp_path, "-q", "0.1", "-d", name[1:-4], "-m", "200", name=name)
    options = ["--contact-sheet", "sheet.png", "--thumbnail", "40", "--columns", "2"]
    done = topng(tmp_path, *options, *names)
    assert (done.returncode, done.stderr) == (0, "")
    sheet = decode_png(tmp_path / "sheet.png")
    assert (sheet.width, sheet.height) == (104, 104)  # 2 x 40 pixels and 3 gaps of 8
    centres = [sheet.at(28, 28), sheet.at(76, 28), sheet.at(28, 76)]
    assert centres == [INSIDE] * 3
    assert sheet.at(76, 76) == sheet.at(0, 0) == (244, 241, 234)
    original = decode_ppm(tmp_path / "p40.ppm")
    assert [sheet.at(56 + x, 8) for x in range(40)] == [original.at(x, 0) for x in range(40)]
    assert not (tmp_path / "p20.png").exists()


def test_thumbnail_is_the_mean_and_keeps_its_shape(tmp_path: Path) -> None:
    """A 4 x 2 picture at side 2 becomes 2 x 1 pixels, each the mean of four."""
    row = b"\0\0\0" + b"\x64\x64\x64" + b"\xff\0\0" * 2
    (tmp_path / "a.ppm").write_bytes(b"P6\n4 2\n255\n" + row * 2)
    assert topng(tmp_path, "--contact-sheet", "s.png", "--thumbnail", "2", "a.ppm").returncode == 0
    sheet = decode_png(tmp_path / "s.png")
    assert (sheet.at(8, 8), sheet.at(9, 8)) == ((50, 50, 50), (255, 0, 0))


@pytest.mark.parametrize("options", [["--thumbnail", "0", "a.ppm"], ["--columns", "x", "a"], []])
def test_bad_converter_options_are_status_2(tmp_path: Path, options: list[str]) -> None:
    """Wrong options are told apart from bad pictures."""
    assert topng(tmp_path, *options).returncode == 2


def test_png_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """An output in the way is one line and status 1."""
    (tmp_path / "a.ppm").write_bytes(b"P6\n1 1\n255\n\x01\x02\x03")
    (tmp_path / "a.png").mkdir()
    done = topng(tmp_path, "a.ppm")
    assert done.returncode == 1
    assert "a.png: cannot be written: Is a directory" in done.stderr
    assert list(tmp_path.glob("*.part")) == []


@pytest.mark.parametrize("name", ["topng.py", "fetch.sh"])
def test_scripts_can_be_run_as_they_are(name: str) -> None:
    """What the README starts by name is executable."""
    assert (FOLDER / name).stat().st_mode & stat.S_IXUSR
