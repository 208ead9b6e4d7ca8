"""Ctrl-C and SIGTERM, kept from code that would hide them or break."""

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Lets Ctrl-C and SIGTERM wait for the end of the block.

    For imports, and for what TensorFlow does in C++ that calls Python again: there an exception
    from a signal's handler gets lost, or comes out as another one.
    """
    if threading.current_thread() is not threading.main_thread():  # only that one gets signals
        yield
        return
    arrived: list[int] = []

    def note(number, frame):
        arrived.append(number)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, note)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if arrived:  # also where the block failed: what was asked for comes first
            signal.raise_signal(arrived[0])
