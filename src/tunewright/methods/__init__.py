"""Methods say which weights train; one file each, `method: {name: lora, r: 16}` becomes `Lora(r=16)`.

The contract is `tunewright.models.contracts.Method`.
"""
