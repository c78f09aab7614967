"""Baselines, one file each: cheap answerers fitted on the training rows and asked about the test rows.

Their `choices` are log-probabilities over the label list, so every closed-set metric reads them like a model's.
"""
