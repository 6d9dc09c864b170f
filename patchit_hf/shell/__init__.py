"""The one command, ``patchit``: it finds the command that is meant and hands the words over.

Nothing here imports torch; a command does so once its arguments are found to be right.
"""
