"""A private Slurm for tests: real daemons on loopback."""
