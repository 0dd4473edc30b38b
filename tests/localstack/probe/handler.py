"""Does what the event says: sleeps, fails, dies, answers much."""

import os
import socket
import time


def handle(event, context):
    time.sleep(event.get("sleep_s", 0))
    if event.get("attempt", 0) < event.get("exits", 0):
        os._exit(3)
    if event.get("attempt", 0) < event.get("failures", 0):
        raise type(event.get("error", "ValueError"), (Exception,), {})(f"attempt {event.get('attempt', 0)}")
    return {
        "host": socket.gethostname(),
        "event": event,
        "left_ms": context.get_remaining_time_in_millis(),
        "arn": context.invoked_function_arn,
        "filler": "x" * event.get("answer_bytes", 0),
    }
