"""Runs of the command line in a process of their own, and the files that go to it and come back."""
