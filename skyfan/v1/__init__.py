"""Generated from proto/skyfan/v1 by `make proto`; never edited."""
