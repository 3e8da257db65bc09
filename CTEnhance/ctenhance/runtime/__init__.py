"""What every method shares and no method owns: devices, memory, progress, files, weights, errors."""
