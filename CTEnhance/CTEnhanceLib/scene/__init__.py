"""What stands in the MRML scene: volume nodes, their units and windows, results beside their inputs."""
