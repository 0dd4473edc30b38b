"""What the Terraform tests stand on: the tools, the current provider's schema, an old provider that runs, moto."""
