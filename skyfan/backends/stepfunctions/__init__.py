"""Backends `localstack` and `aws`: one execution of the deployed Step Functions pipeline is the whole fan-out."""
