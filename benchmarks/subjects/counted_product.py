"""The product, which also logs the number of its asyncio tasks when it receives SIGUSR2: `tasks: 123`."""

import asyncio
import signal
import sys

from bridge.cli.main import main


def log_tasks(*_: object) -> None:
    """Write the number of tasks to stderr."""
    print(f"tasks: {len(asyncio.all_tasks())}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    # Python runs the handler in the main thread, in which the event loop runs.
    signal.signal(signal.SIGUSR2, log_tasks)
    main()
