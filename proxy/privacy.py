"""Privacy of this process: no other process of the same user reads its memory or environment, and no core holds a key.

A key given as a variable stays in `/proc/PID/environ`, from where nothing can take it; containers of one pod may share
their user and their processes. Linux only. Root reads everything, as ever.
"""

import sys

_PR_SET_DUMPABLE = 4  # <linux/prctl.h>


def keep() -> bool:
    """Close this process to others (prctl(2), PR_SET_DUMPABLE); False where that cannot be had."""
    if sys.platform != "linux":
        return False
    # Here and not above: nothing else needs it, and commands that are run often do not come here.
    import ctypes

    return ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) == 0  # type: ignore[no-any-return]
