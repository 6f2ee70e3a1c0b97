"""Random numbers that need not be secret, without a system call for each."""

import os
import random

dice = random.Random()
"""A generator of our own: nobody else seeds it, and a forked process has another one."""

os.register_at_fork(after_in_child=dice.seed)
