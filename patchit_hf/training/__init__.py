"""The training stack: loop, trainer, monitor, checkpoints, run folder and optimisers."""
