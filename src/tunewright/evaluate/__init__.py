"""Suites, metrics, baselines, probes, comparison and verdict."""
