"""Benchmarks: each prints what PiCaS did beside a limit or a peer measured in the same run."""
