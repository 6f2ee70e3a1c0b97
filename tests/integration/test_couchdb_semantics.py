"""x."""


def test_x(database: str) -> None:
    """X."""
    print(database)
