"""Judges: did an answer do what was asked, or refuse? The folder is the registry.

A judge is one file with one plugin class that follows `Judge` (`evaluate/judging.py`). It rules over exchanges (a
request and the answer to it) and says nothing where it cannot: a judge that is absent raises `NotMeasured`, and a
single exchange that could not be judged is NaN, never 0.

This file imports nothing, so that listing the judges doesn't load torch.
"""
