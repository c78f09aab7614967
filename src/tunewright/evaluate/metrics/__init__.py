"""Metrics, one file each: `record` turns an outcome into numbers, `summarise` turns weighted records into figures.

A metric never averages averages: it keeps sums and counts per example, so that any weighting of the examples
(a bootstrap resample, a unit counted twice) gives exactly what the same rows written out would give.
"""
