"""Methods say which weights train; one file each, `method: {name: lora, r: 16}` becomes `Lora(r=16)`.

The contract is `tunewright.models.contracts.Method`. Beyond it every method states:

- `frozen_dtype` (class): in which precision to open the model. "auto": frozen weights may be bfloat16, the method
  casts where it must. "float32": the whole model is opened in float32, because trained and frozen weights meet in
  one matrix product or one residual stream.
- `overwrites` (class): True when the base's own weights change. `off` then refuses, and whoever needs the base
  opens it again from its origin; `save` writes a whole model instead of an adapter.
- `notes(model)`: sentences for the user on what was chosen, before or after `attach`.

`attach` changes the given model in place; `trained` finds the weights by name, so it works on what `attach` and
`load` return alike. What `load` returns is frozen and ready to answer.
"""
