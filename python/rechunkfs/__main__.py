"""`python -m rechunkfs`: the command, where it is not on the PATH."""

import os
import sys

from ._command import command_path

os.execv(command_path(), ["rechunkfs", *sys.argv[1:]])
