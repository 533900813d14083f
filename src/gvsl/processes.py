"""Processes that help another: they end with it, however it ends."""

import os
import threading
import time

LOOK_EVERY = 0.5
"""Seconds between two looks at the parent."""
WATCH = "gvsl: ends with its parent"


def end_with_parent(parent: int) -> None:
    """End this process soon after `parent`, which started it, has ended, as after a kill, which no clean-up sees.

    What is written then is lost as after a kill of this process; everything that gvsl writes stands that.

    Args:
        parent: the id of the process that this one works for.
    """
    if os.getpid() == parent or any(thread.name == WATCH for thread in threading.enumerate()):
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK_EVERY)
        os._exit(1)

    threading.Thread(target=watch, name=WATCH, daemon=True).start()
