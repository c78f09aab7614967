"""Objectives say what is minimised; one file each.

The contract is `tunewright.models.contracts.Objective`: `needs` names the capabilities a family must have, `check`
complains about data it cannot use before anything runs, and `loss` returns sums and counts per segment, never means:
the average is taken once, over the whole optimiser step.
"""
