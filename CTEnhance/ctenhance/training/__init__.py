"""What all trainings share: their settings, the resumable loop and its checkpoints."""
