"""What a test run did without: components that are not on this machine, by name."""

_SKIPPED: dict[str, str] = {}


def skipped_component(name: str, why: str) -> None:
    """Note that a component could not be tested against; the summary of the run names it.

    Args:
        name: The component: ``real CouchDB``, ``Slurm``.
        why: Why not, and what stood in for it if anything did.
    """
    _SKIPPED[name] = why


def skipped_components() -> dict[str, str]:
    """What was skipped so far: the reason by name."""
    return dict(_SKIPPED)
