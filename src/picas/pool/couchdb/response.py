"""Replies of a server: the standard library's, but for their heads.

`http.client` hands a head to the parser for e-mail, which takes a sixth of what a pilot that claims
one short token at a time does (ADR 0018). Of a head little matters here.
"""

from http.client import (
    CONTINUE,
    NO_CONTENT,
    BadStatusLine,
    HTTPException,
    HTTPResponse,
    RemoteDisconnected,
)

MOST_FIELDS = 100
LINE_BYTES = 65_536


class Response(HTTPResponse):
    """A reply.

    Attributes:
        fields: Its header fields, by their names in lower case; of several with a name the first.
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
            self.fields = self._read_fields()
        get = self.fields.get
        self.chunked = get("transfer-encoding", "").lower() == "chunked"
        self.chunk_left = None
        self.length = None if self.chunked else _length(get("content-length"))
        if self.status == NO_CONTENT:
            self.length = 0
        endless = not self.chunked and self.length is None  # it ends with the connection
        self.will_close = endless or self.version < 11 or get("connection", "").lower() == "close"

    def _read_status_line(self) -> None:
        line = self._line()
        version, _, rest = line.partition(" ")
        code, _, self.reason = rest.partition(" ")
        if version not in ("HTTP/1.0", "HTTP/1.1") or not _is_number(code) or len(code) != 3:
            raise BadStatusLine(line)
        self.version, self.status = 11 if version == "HTTP/1.1" else 10, int(code)

    def _read_fields(self) -> dict[str, str]:
        fields: dict[str, str] = {}
        for _ in range(MOST_FIELDS + 1):
            line = self._line()
            if not line:
                return fields
            name, colon, value = line.partition(":")
            if not colon or name != name.strip():
                raise HTTPException("the head of its reply has a line that is no field")
            fields.setdefault(name.lower(), value.strip())
        raise HTTPException(f"the head of its reply has more than {MOST_FIELDS} fields")

    def _line(self) -> str:
        line = self.fp.readline(LINE_BYTES + 1)
        if len(line) > LINE_BYTES:
            raise HTTPException(f"the head of its reply has a line of more than {LINE_BYTES} bytes")
        if not line.endswith(b"\n"):
            raise RemoteDisconnected("it ended the connection without a reply")
        return line.decode("latin-1").rstrip("\r\n")


def _length(text: str | None) -> int | None:
    if text is not None and not _is_number(text):
        raise HTTPException("its reply has a length that is no number")
    return None if text is None else int(text)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()
