"""How well a model does what it is for, whatever its task: the level, with an interval."""
