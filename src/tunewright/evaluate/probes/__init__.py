"""Probes: what is asked of base and tuned alike beside the user's own rows. The folder is the registry.

A probe is one file with one plugin class that follows `Probe` (`_protocol.py`):

- `needs`: capabilities that the family must have; without them the probe is refused, never half done.
- `version`: changes whenever the answers would; base's answer is cached under it.
- `ask(model, progress)`: runs the model, returns named arrays. Base and tuned are asked the same.
- `compare(base, tuned, seed, resamples)`: arrays to figures with intervals, blocks and a sentence; no model needed.

This file imports nothing, so that listing the probes doesn't load torch.
"""
