"""Backbones, the models built on them, initial weights, and reading exports."""
