"""What is found from scans: a detector's drift, a scanner's amount of scatter, how materials attenuate."""
