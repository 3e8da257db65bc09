"""What all panels are made of: their widget, the sections Run and Details, the choice of a model."""
