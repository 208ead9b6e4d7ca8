"""A model's answers about a user's rows."""
