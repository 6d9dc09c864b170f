"""Several starts with one budget: ``cells`` are finetuned once, ``rows`` say what they are worth.

``table`` writes them down. ``patchit_hf.compare`` is the command.
"""
