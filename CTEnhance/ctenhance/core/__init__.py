"""Data and their meaning: CT volumes, Hounsfield units, results and reports. No file is opened here."""
