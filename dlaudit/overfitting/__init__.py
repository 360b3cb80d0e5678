"""Whether a model does as well on data that it has not seen as on data that it learned from."""
