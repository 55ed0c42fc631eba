"""Run `facebridge` with a short timeout for locks on the store, so that a test of that timeout need not wait for it.

`python -m tests.support.bridge_with_short_lock_timeout run -c config.yaml` is otherwise the same as `facebridge run`.
"""

from functools import partial

from bridge.cli.main import main
from bridge.store.database import Database

_LOCK_TIMEOUT_SECONDS = 0.3

if __name__ == "__main__":
    Database.open = partial(Database.open, busy_timeout=_LOCK_TIMEOUT_SECONDS)  # type: ignore[method-assign]
    main()
