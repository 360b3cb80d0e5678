"""Adversarial inputs: threat models, attacks and the harness that re-judges every example."""
