"""What files of a token are called on disk."""

import hashlib
from urllib.parse import quote

_LONGEST_NAME = 180


def file_name(token_id: str, number: int = 1) -> str:
    """A name for a token's files, without the ending.

    What would be a path in the id is quoted; where a long id is cut, a hash keeps it apart.

    Args:
        token_id: The token's id.
        number: Keeps those of several attempts apart; 1 is left out.
    """
    name = quote(token_id, safe=" +,=@:")
    if len(name) > _LONGEST_NAME:
        name = f"{name[:_LONGEST_NAME]}-{hashlib.sha256(token_id.encode()).hexdigest()[:16]}"
    return name if number == 1 else f"{name}.{number}"
