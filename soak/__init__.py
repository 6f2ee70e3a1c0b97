"""Fault injection: real pilots on a real pool, faults from a seed, and a check of the promises."""
