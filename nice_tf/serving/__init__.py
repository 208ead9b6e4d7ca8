"""The SavedModel: its signatures, its folder, its warm-up."""
