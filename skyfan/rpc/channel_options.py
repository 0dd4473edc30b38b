"""Channel and server options, the same on both ends of every connection."""

import json
from typing import Any

# Larger plan items are not sent but read from the run's folder (skyfan.stages.items).
MAX_MESSAGE_BYTES = 16 * 2**20

KEEPALIVE_TIME_S = 30
KEEPALIVE_TIMEOUT_S = 10

# A server that took a call may have begun to act on it, so only calls that no server answered are repeated
# here; everything else is for the driver's retry policy, which knows what is idempotent.
_SERVICE_CONFIG = json.dumps(
    {
        "methodConfig": [
            {
                "name": [{}],
                "retryPolicy": {
                    "maxAttempts": 4,
                    "initialBackoff": "0.2s",
                    "maxBackoff": "2s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
    }
)

Options = list[tuple[str, Any]]


def channel_options() -> Options:
    """Options of a client channel."""
    return [
        *_common_options(),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.max_reconnect_backoff_ms", 2000),
        # Services are on loopback or on a network of their own, which no proxy of the user's reaches.
        ("grpc.enable_http_proxy", 0),
        ("grpc.enable_retries", 1),
        ("grpc.service_config", _SERVICE_CONFIG),
    ]


def server_options() -> Options:
    """Options of a server: it accepts the keepalive that `channel_options` asks for."""
    return [
        *_common_options(),
        ("grpc.http2.min_ping_interval_without_data_ms", KEEPALIVE_TIME_S * 500),
        ("grpc.http2.max_ping_strikes", 3),
        # Two servers on one port would silently share the calls.
        ("grpc.so_reuseport", 0),
    ]


def _common_options() -> Options:
    return [
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.keepalive_time_ms", KEEPALIVE_TIME_S * 1000),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_S * 1000),
        ("grpc.keepalive_permit_without_calls", 1),
    ]
