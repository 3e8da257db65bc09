"""The verbs of the command line: one file a verb, or a group of them."""
