"""Torch-free ground: records, the run store, configuration, plugins, files, seeds and errors."""
