"""Mitigations: what keeps tuning from undoing a model's safety. The folder is the registry.

A mitigation is one file with one plugin class that derives from `_base.Mitigation` and overrides what it needs:

- `more_rows(train)`: rows that are trained on beside the user's own, placed evenly in every epoch.
- `project(model)`: changes the trained weights once, after the last step.
- `serve(model)`: changes how the finished model is asked.

Each says what it did and what it cost; `train.mitigations` names them.
"""
