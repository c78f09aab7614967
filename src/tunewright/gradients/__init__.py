"""How a micro-batch becomes gradients; one file each.

The contract is `tunewright.models.contracts.Gradients`: `accumulate` once per micro-batch, with the count of the
whole optimiser step, then `finish` once. Gradients add up in the weights' `.grad`, which the loop empties between
steps.
"""
