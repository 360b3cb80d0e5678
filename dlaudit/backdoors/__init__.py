"""Backdoors: triggers searched for in a trained model."""
