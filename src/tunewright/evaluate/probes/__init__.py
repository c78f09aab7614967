"""Probes: what is asked of base and tuned alike beside the user's own rows. The folder is the registry.

A probe is one file with one plugin class derived from `Probe` (`_base.py`):

- `needs`: capabilities that the family must have; without them the probe is refused, never half done.
- `version`: changes whenever the answers would; base's answer is cached under it.
- `forms`: its quick and its full form, each as the fields that make it; a probe without runs only when it is named.
- `ask(model, progress, part)`: runs the model, returns named arrays. Base and tuned are asked the same; pieces made
  through `part` are not made again when an interrupted asking goes on.
- `describe(answers, seed, resamples)`: what one model's answers come to, for `tunewright probe NAME --json OUT`.
- `compare(base, tuned, seed, resamples)`: arrays to figures with intervals, blocks and a sentence; no model needed.

This file imports nothing, so that listing the probes doesn't load torch.
"""
