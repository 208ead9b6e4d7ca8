"""The layers, as TFP bijectors whose `forward` is data to latent, and the functions m inside them."""
