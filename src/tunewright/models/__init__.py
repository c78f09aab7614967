"""Families of models, packed attention, scoring, generation and weight files."""
