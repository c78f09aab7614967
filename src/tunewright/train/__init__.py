"""One loop for every method, objective, modality and way of making gradients."""
