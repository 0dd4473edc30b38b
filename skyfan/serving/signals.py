"""What SIGTERM, by which schedulers give notice, and Ctrl-C do in a program that ends its work in order."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def on_signals(notice: Callable[[], None]) -> Iterator[None]:
    """Calls `notice` at each of both signals; only the main thread can, elsewhere they stay what they are."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda _number, _frame: notice()) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
