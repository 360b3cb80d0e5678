"""Renderers: each tells a record in one format, from the record and its evidence alone."""
