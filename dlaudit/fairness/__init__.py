"""Rates of groups and the gaps between them, measured with intervals; knows no torch."""
