"""Tunewright: fine-tuning that answers what got better, what broke and what leaked."""

__version__ = "0.1.0"
