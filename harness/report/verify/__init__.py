"""Two executions of one plan: what `make verify` says of them."""
