"""Attribution maps and the tests without which none is shown; shortcuts, decided by replacement."""
