"""What LocalStack 2026.3.0 does differently from AWS Step Functions, and Skyfan relies on.

Each module patches one group of behaviours and names AWS's page about it. What stays different is listed in
infra/localstack/README.md.
"""
