"""The command line: reads arguments, prints sentences, sets exit codes; the work is done below.

0 means success, 2 bad input (one sentence on stderr, never a traceback), 130 an interrupt. Heavy modules are imported
inside the commands, so that ``--help`` answers at once.
"""

from napari_uncertsam.cli.app import app, main

__all__ = ["app", "main"]
