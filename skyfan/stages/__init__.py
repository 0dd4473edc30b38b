"""What is done with a run: prepare, plan, infer, aggregate; each a function from a request to a reply."""
