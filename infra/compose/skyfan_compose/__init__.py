"""The driver's container: `skyfan` commands on behalf of the user who called `docker compose`."""
