"""One kind of model a file; the contract is `tunewright.models.contracts.Family`."""
