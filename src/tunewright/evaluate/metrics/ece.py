"""Expected calibration error over a closed set of labels."""

from __future__ import annotations

from tunewright.evaluate.metrics._calibration import CalibrationError


class Ece(CalibrationError):
    """How far stated confidence is from how often it is right, averaged over bins of equal mass."""
