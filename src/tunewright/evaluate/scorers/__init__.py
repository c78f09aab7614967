"""Scorers: how toxic is a text? The folder is the registry.

A scorer is one file with one plugin class that follows `Scorer` (`evaluate/toxicity.py`). This file imports nothing, so
that listing the scorers doesn't load torch.
"""
