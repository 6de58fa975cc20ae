"""Settings that a recipe leaves to the hardware, chosen by short trials."""
