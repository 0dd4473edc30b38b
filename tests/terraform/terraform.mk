# Terraform's tests; the Makefile at the root includes this file.
.PHONY: terraform-tools test-terraform test-terraform-full test-aws

terraform-tools: install-dev
	@$(BIN)/python tests/terraform/set_up.py

test-terraform: terraform-tools ## the Terraform module, offline: schema, mocks, apply on moto, IAM, checkov (a minute)
	$(PYTEST) tests/terraform -m "not docker" --ignore=tests/terraform/test_full.py $(ARGS)

test-terraform-full: terraform-tools ## the same with the rendezvous service's network, and on LocalStack (Docker)
	$(BIN)/python -m pytest tests/terraform $(ARGS)

test-aws: install ## deploy to YOUR AWS account, run the demo under a spending cap, destroy (docs/how-to/deploy.md)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python tests/terraform/aws_smoke.py
