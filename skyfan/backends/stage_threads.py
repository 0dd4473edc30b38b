"""Stages on a thread of their own, so that Ctrl-C and progress get through."""

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from skyfan import store
from skyfan.events import Event, Listener

P = ParamSpec("P")
T = TypeVar("T")


def in_loop(listener: Listener) -> Listener:
    """The listener for other threads: it is called in the thread of the running loop."""
    loop = asyncio.get_running_loop()

    def tell(event: Event) -> None:
        loop.call_soon_threadsafe(listener, event)

    return tell


async def on_thread(stage: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The stage's reply; when cancelled, what it asked of a store is not waited for, which may hang."""
    try:
        return await asyncio.to_thread(stage, *args, **kwargs)
    except asyncio.CancelledError:
        store.abandon_calls()
        raise
