"""Backbones, the models built on them, initial weights, and exports read back."""
