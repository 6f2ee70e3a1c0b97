#!/usr/bin/env python3
"""Turn PPM pictures into PNG, with Python's standard library alone.

Every picture gets a PNG beside it; or, with ``--contact-sheet``, all of them go into one PNG, as
thumbnails of a common size. A file that cannot be read costs one line on stderr, the others are
still done. Exit status: 0 all done, 1 some file failed, 2 wrong options.
"""

import argparse
import math
import re
import struct
import sys
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MAX_SAMPLES = 4
"""A thumbnail's pixel is the mean of at most 4 x 4 of the picture's: quick for any size."""

PAPER = b"\xf4\xf1\xea"
"""Colour around the thumbnails of a contact sheet."""

_WORD = rb"(?:\s|#[^\n]*\n)*"
_HEADER = re.compile(rb"P6" + (rb"(?=[\s#])" + _WORD + rb"(\d+)") * 3 + rb"\s")


class PictureError(Exception):
    """A picture cannot be used; the text says which and why."""


@dataclass(frozen=True)
class Picture:
    """A picture in memory.

    Attributes:
        width: Pixels in a row.
        height: Rows.
        pixels: Red, green and blue of every pixel, a byte each, row by row from the top.
    """

    width: int
    height: int
    pixels: bytes


def read_ppm(file: Path) -> Picture:
    """Read a binary PPM (P6, one byte a colour).

    Raises:
        PictureError: It is no such file, or only a part of one.
    """
    try:
        data = file.read_bytes()
    except OSError as exc:
        raise PictureError(f"{file}: cannot be read: {exc.strerror}") from exc
    header = _HEADER.match(data)
    if header is None:
        raise PictureError(f"{file}: is not a binary PPM (it does not begin with a P6 header)")
    width, height, maximum = (int(number) for number in header.groups())
    if maximum != 255:
        raise PictureError(f"{file}: has colours up to {maximum}; only 255 is understood")
    if not width or not height:
        raise PictureError(f"{file}: is empty ({width} x {height} pixels)")
    pixels = data[header.end() :]
    if len(pixels) != 3 * width * height:
        raise PictureError(
            f"{file}: {width} x {height} pixels take {3 * width * height} bytes, "
            f"it holds {len(pixels)}; draw it again"
        )
    return Picture(width, height, pixels)


def png(picture: Picture) -> bytes:
    """Encode a picture as PNG: 8 bits a colour, no alpha, no interlacing."""
    stride = 3 * picture.width
    rows = (
        b"\0" + picture.pixels[start : start + stride]  # 0: this row is not filtered
        for start in range(0, len(picture.pixels), stride)
    )
    header = struct.pack(">IIBBBBB", picture.width, picture.height, 8, 2, 0, 0, 0)
    body = zlib.compress(b"".join(rows), 9)
    chunks = _chunk(b"IHDR", header) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def thumbnail(picture: Picture, side: int) -> Picture:
    """Scale a picture so that its longer side has `side` pixels."""
    longest = max(picture.width, picture.height)
    width = max(1, round(picture.width * side / longest))
    height = max(1, round(picture.height * side / longest))
    columns = [_sources(x, width, picture.width) for x in range(width)]
    pixels = bytearray()
    for y in range(height):
        rows = [row * picture.width for row in _sources(y, height, picture.height)]
        for column in columns:
            places = [3 * (row + x) for row in rows for x in column]
            for colour in range(3):
                total = sum(picture.pixels[place + colour] for place in places)
                pixels.append((total + len(places) // 2) // len(places))
    return Picture(width, height, bytes(pixels))


def _sources(place: int, places: int, length: int) -> list[int]:
    """Which rows (or columns) of the picture make one of the thumbnail's."""
    count = min(MAX_SAMPLES, max(1, math.ceil(length / places)))
    return [((place * count + k) * 2 + 1) * length // (2 * count * places) for k in range(count)]


def contact_sheet(pictures: Sequence[Picture], columns: int, side: int, gap: int = 8) -> Picture:
    """Put pictures into a grid, row by row, each in the middle of a cell of `side` pixels."""
    rows = math.ceil(len(pictures) / columns)
    width, height = (gap + count * (side + gap) for count in (columns, rows))
    pixels = bytearray(PAPER * (width * height))
    for number, picture in enumerate(pictures):
        row, column = divmod(number, columns)
        left = gap + column * (side + gap) + (side - picture.width) // 2
        top = gap + row * (side + gap) + (side - picture.height) // 2
        for y in range(picture.height):
            start = 3 * ((top + y) * width + left)
            line = picture.pixels[3 * y * picture.width : 3 * (y + 1) * picture.width]
            pixels[start : start + len(line)] = line
    return Picture(width, height, bytes(pixels))


def save(picture: Picture, file: Path) -> None:
    """Write a PNG under a name that it gets only when it is complete.

    Raises:
        PictureError: It cannot be written there.
    """
    part = file.with_name(file.name + ".part")
    try:
        part.write_bytes(png(picture))
        part.replace(file)
    except OSError as exc:
        part.unlink(missing_ok=True)
        raise PictureError(f"{file}: cannot be written: {exc.strerror}") from exc


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says; returns the exit status."""
    options = _parser().parse_args(argv)
    failed = False
    thumbnails = []
    for file in options.files:
        try:
            picture = read_ppm(file)
            if options.contact_sheet:
                thumbnails.append(thumbnail(picture, options.thumbnail))
            else:
                save(picture, file.with_suffix(".png"))
        except PictureError as exc:
            failed = _complain(exc)
    if thumbnails:
        columns = options.columns or math.ceil(math.sqrt(len(thumbnails)))
        try:
            save(contact_sheet(thumbnails, columns, options.thumbnail), options.contact_sheet)
        except PictureError as exc:
            failed = _complain(exc)
    return 1 if failed else 0


def _complain(error: PictureError) -> bool:
    print(f"topng: {error}", file=sys.stderr)
    return True


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="topng.py", description="Turn PPM pictures into PNG: a.ppm becomes a.png beside it."
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.ppm")
    parser.add_argument(
        "--contact-sheet",
        type=Path,
        metavar="FILE.png",
        help="instead, make one picture of all of them, as thumbnails in a grid",
    )
    parser.add_argument(
        "--thumbnail", type=_count, default=192, metavar="N", help="its thumbnails' side (192)"
    )
    parser.add_argument(
        "--columns", type=_count, metavar="N", help="its columns (default: a square grid)"
    )
    return parser


def _count(text: str) -> int:
    if not re.fullmatch(r"\d{1,4}", text) or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 9999")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
