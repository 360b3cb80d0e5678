"""Whether the data deserve what is concluded from them: copies, leaks, labels, columns, drift."""
