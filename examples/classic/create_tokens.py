"""Make tokens of lists of values; the scripts that push use it."""

from picas.documents import Task


def create_tokens(fields, offset=0):
    """Make one token for each value, numbered from the offset: token_0, token_1.

    Args:
        fields: The values by the field that holds them: ``{"input": ["echo A", "echo B"]}``.
        offset: The number of the first token.

    Returns:
        A list of `Task`.
    """
    values = [(field, value) for field, listed in fields.items() for value in listed]
    return [
        Task({"_id": f"token_{number}", "type": "token", field: value})
        for number, (field, value) in enumerate(values, start=offset)
    ]
