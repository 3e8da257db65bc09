"""What all trainings share: the resumable loop and its checkpoints."""
