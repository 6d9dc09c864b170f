"""Open and decode person crops, and split off the held-out ones."""
