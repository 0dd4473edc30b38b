"""A rendezvous server for the whole folder."""

from collections.abc import Iterator

import pytest
import structlog

from skyfan.serving.embedded_rendezvous import EmbeddedServer


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedServer]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    with EmbeddedServer() as running:
        yield running
    structlog.reset_defaults()


@pytest.fixture
def channel_options(request, server, tmp_path):
    """`comm.connect`'s options for a channel, by indirect parameter."""
    if request.param == "store":
        return {"channel": "store", "store": str(tmp_path)}
    return {"channel": request.param, "rendezvous": server.address}
