"""What the ids of documents are good for when work is looked for."""

import zlib
from os.path import commonprefix
from string import ascii_lowercase, digits

from picas.dice import dice

_LETTERS = 8
"""How many letters of an id are drawn: enough to tell millions of them apart."""

_DRAWS = 20
_ALPHABETS = (digits, digits + "abcdef", digits + ascii_lowercase)
"""Letters that ids are usually made of."""


def shard(doc_id: str, shards: int) -> int:
    """In which of so many equal pieces CouchDB keeps a document.

    A write is made durable in each piece that it touches: one of a result and the next claim costs
    less where both are in the same (measured in ADR 0014). Nothing else depends on it.

    Source: CouchDB's manual, "Shard Management": the CRC32 of the id falls into a shard's range.
    """
    return zlib.crc32(doc_id.encode()) * shards >> 32


def between(first: str, last: str) -> str:
    """A text between two others, at random; at worst the first.

    Where ids are numbers or digests, all parts of them are as likely, and pilots begin far apart.
    Where they lie in groups, many begin at the head of one: the leap from there parts them.
    """
    same = commonprefix([first, last])  # noqa: RUF071 - of texts, not of paths
    low, high = first[len(same) :], last[len(same) :]
    seen = set(low + high)
    letters = next((known for known in _ALPHABETS if seen.issubset(known)), "".join(sorted(seen)))
    heads = [letter for letter in letters if low[:1] <= letter <= high[:1]]
    for _ in range(_DRAWS if heads else 0):
        text = same + dice.choice(heads) + "".join(dice.choices(letters, k=_LETTERS))
        if first < text < last:
            return text
    return first
