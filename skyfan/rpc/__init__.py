"""What every gRPC server and client of Skyfan shares: options, TLS, errors, messages, logging."""
