"""How a micro-batch becomes gradients; one file each.

The contract is `tunewright.models.contracts.Gradients`: `begin` once a run, then `accumulate` once per micro-batch,
with the count of the whole optimiser step, and `finish` once a step. What a step leaves lies in the weights' `.grad`,
which the loop empties between steps.
"""
