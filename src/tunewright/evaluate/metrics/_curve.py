"""Rows sorted by a number and summed from the front, for many weightings at once."""

from __future__ import annotations

import numpy as np

from tunewright.evaluate.contracts import Floats


def running_sums(keys: Floats, columns: Floats, weights: Floats) -> Floats:
    """[columns + 1, resamples, groups + 1] weighted sums over rows in rising order of their key, 0 first.

    The first of them is the mass, the others are of the columns. Rows of equal key are one group, so neither the order
    of rows nor writing a row twice changes anything: between two groups, whoever reads the sums shares in proportion.

    Args:
        keys: [n] what rows are sorted by.
        columns: [n, columns] what is summed.
        weights: [resamples, n].
    """
    groups, group = np.unique(keys, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(len(groups)))
    ordered = weights[:, order]
    summed = [np.add.reduceat(ordered, starts, axis=1)]
    summed += [np.add.reduceat(ordered * column[order], starts, axis=1) for column in columns.T]
    return np.pad(np.cumsum(np.stack(summed), axis=2), ((0, 0), (0, 0), (1, 0)))


def equal_mass_gap(records: Floats, weights: Floats, bins: int) -> Floats:
    """[resamples] sum over bins of equal mass of |right - stated|, by mass: the calibration error.

    Args:
        records: [n, 2] stated confidence, and 1 or 0 for right.
        weights: [resamples, n].
        bins: How many; a group of equal confidence on the edge of two bins is shared between them.
    """
    mass, gap = running_sums(records[:, 0], (records[:, 1] - records[:, 0])[:, None], weights)
    edges = np.linspace(0, 1, bins + 1)
    figures = [
        np.abs(np.diff(np.interp(edges * m[-1], m, g))).sum() / m[-1] if m[-1] > 0 else np.nan
        for m, g in zip(mass, gap, strict=True)
    ]
    return np.asarray(figures)
