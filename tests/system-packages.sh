#!/bin/sh
# Install the system packages that the tests use, where that is possible: as root on Debian or
# Ubuntu. What stays missing is skipped by name by the tests themselves.
set -u

PATH=$PATH:/usr/sbin:/sbin
missing=""
command -v cc >/dev/null 2>&1 || missing="$missing gcc libc6-dev"
command -v bash >/dev/null 2>&1 || missing="$missing bash"
# A private Slurm: tests/slurm. Its daemons are started by the tests, on loopback.
command -v slurmctld >/dev/null 2>&1 || missing="$missing slurmctld"
command -v slurmd >/dev/null 2>&1 || missing="$missing slurmd"
command -v sbatch >/dev/null 2>&1 || missing="$missing slurm-client"
command -v munged >/dev/null 2>&1 || missing="$missing munge"
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "installing:$missing"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing >/dev/null ||
        echo "could not install:$missing"
else
    echo "not installed (needs root on Debian or Ubuntu):$missing"
fi
exit 0
