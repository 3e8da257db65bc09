"""A result beside its input: the views, and the section of the panel that drives them."""
