# Terraform's tests; the Makefile at the root includes this file.
TERRAFORM_PYTHON ?= .venv/bin/python

.PHONY: terraform-tools test-terraform test-terraform-all test-aws

# Terraform, a provider that runs, the current provider's schema and checkov: once, from the package registry.
terraform-tools:
	@$(TERRAFORM_PYTHON) tests/terraform/set_up.py

# Offline, within a minute: everything but the network part of the module.
test-terraform: terraform-tools
	$(TERRAFORM_PYTHON) -m pytest tests/terraform -m "not slow and not docker"

# The same and the whole module with its network; and on LocalStack where Docker is there.
test-terraform-all: terraform-tools
	$(TERRAFORM_PYTHON) -m pytest tests/terraform

# Deploys to YOUR account, runs the demo under a spending cap, destroys. Never in CI. See docs/deploy.md.
test-aws:
	$(TERRAFORM_PYTHON) tests/terraform/aws_smoke.py
