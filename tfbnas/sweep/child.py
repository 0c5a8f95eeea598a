"""The process of a trial: `python -m tfbnas.sweep.child PARENT MODULE [ARGUMENT ...]`.

Runs the module as `python -m MODULE [ARGUMENT ...]` does, and stops it when the sweep, the process PARENT, is gone:
nobody would wait for it any more.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time

_PATIENCE = 20.0  # seconds to stop in good order


def _stop_without(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(_PATIENCE)
    os._exit(130)


def main() -> None:
    """Runs the module."""
    parent, module, *arguments = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start with it ignored
    threading.Thread(target=_stop_without, args=(int(parent),), daemon=True).start()
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
