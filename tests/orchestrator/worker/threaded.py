"""A module that starts a thread when it is imported, so that forking is not safe any more."""

from __future__ import annotations

import threading
import time

threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
