"""The folder of a run, and what is read back from it."""
