"""Replies of a server: the standard library's, but for their heads.

`http.client` hands a head to the parser for e-mail, where a pilot that claims one short token at a
time spent a sixth of its Python's time (ADR 0018); and of a head little matters here.
"""

from http.client import (
    CONTINUE,
    NO_CONTENT,
    NOT_MODIFIED,
    BadStatusLine,
    HTTPException,
    HTTPResponse,
    RemoteDisconnected,
)

MOST_FIELDS = 100
LINE_BYTES = 65_536
_DIGITS = 18


class Response(HTTPResponse):
    """A reply.

    Attributes:
        fields: Its header fields, by their names in lower case; several of a name are joined by
            commas, as RFC 9110 (5.3) has it.
    """

    fields: dict[str, str]

    def begin(self) -> None:
        """Read the head; `getresponse` calls this.

        Raises:
            RemoteDisconnected: The connection ended instead, or in the middle.
            HTTPException: What came is no reply.
        """
        self.status = CONTINUE
        while self.status == CONTINUE:
            self._read_status_line()
            self._read_fields()
        encoding = self.fields.get("transfer-encoding", "identity").lower()
        if encoding not in ("identity", "chunked"):
            raise HTTPException("its reply is encoded in a way that nobody asked for")
        self.chunked = encoding == "chunked"
        self.chunk_left = None
        self.length = None if self.chunked else _length(self.fields.get("content-length"))
        if self.status in (NO_CONTENT, NOT_MODIFIED):
            self.length = 0
        self.will_close = self._ends_connection()

    def _ends_connection(self) -> bool:
        said = self.fields.get("connection", "").lower()
        goes_on = self.version > 10 or "keep-alive" in said
        return "close" in said or not goes_on or not (self.chunked or self.length is not None)

    def _read_status_line(self) -> None:
        line = self._line()
        version, code, self.reason = [*line.split(None, 2), "", "", ""][:3]
        if version not in ("HTTP/1.0", "HTTP/1.1") or not _is_number(code) or len(code) != 3:
            raise BadStatusLine(line or "an empty line")
        self.version, self.status = 11 if version == "HTTP/1.1" else 10, int(code)

    def _read_fields(self) -> None:
        self.fields, name = {}, ""
        for _ in range(MOST_FIELDS + 1):
            line = self._line()
            if not line:
                return
            if name and line[0] in " \t":  # a line may be folded
                self.fields[name] += f" {line.strip()}"
                continue
            name, colon, value = line.partition(":")
            name = name.strip().lower()
            if not (name and colon):
                raise HTTPException("the head of its reply has a line that is no field")
            before = f"{self.fields[name]}, " if name in self.fields else ""
            self.fields[name] = before + value.strip()
        raise HTTPException(f"the head of its reply has more than {MOST_FIELDS} lines")

    def _line(self) -> str:
        line = self.fp.readline(LINE_BYTES + 1)
        if len(line) > LINE_BYTES:
            raise HTTPException(f"the head of its reply has a line of more than {LINE_BYTES} bytes")
        if not line.endswith(b"\n"):
            raise RemoteDisconnected("it ended the connection without a reply")
        return line.decode("latin-1").removesuffix("\n").removesuffix("\r")


def _length(text: str | None) -> int | None:
    """The length of a body; it may be said several times (RFC 9110, 8.6), but not differently."""
    if text is None:
        return None
    numbers = {number.strip() for number in text.split(",")}
    number = numbers.pop()
    if numbers or not _is_number(number):
        raise HTTPException("its reply has no length that is clear")
    return int(number)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _DIGITS
