"""Frameworks of requirements, as data."""
