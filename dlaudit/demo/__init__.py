"""Two small models, one with planted defects."""
