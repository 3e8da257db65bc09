"""A detector's own drift and a scanner's amount of scatter, found from scans."""
