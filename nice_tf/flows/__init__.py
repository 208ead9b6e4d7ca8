"""The density: layers and prior as one distribution, and the questions that it answers."""
