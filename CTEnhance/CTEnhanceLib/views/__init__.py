"""Slice views of a panel's own: linked, titled, in layouts that a saved scene does not keep."""
