"""The command that sentences name as the way to a model that Skyfan runs."""

EXPORT_COMMAND = "skyfan model export MODULE:CLASS --weights {weights} --example DATA OUT.pt2"
