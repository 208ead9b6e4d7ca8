"""From what `--dataset` names to arrays, checked and split, and to batches."""
