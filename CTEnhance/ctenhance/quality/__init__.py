"""Image quality: measures of before and after, a table, a figure, and a page with a slider.

metrics = quality.compare(before, after, reference)
print(quality.table(metrics))
quality.figure(before, after, "figure.png", reference)
quality.page(before, after, "page.html", reference, metrics=metrics)
"""

from ctenhance.quality.compare import compare, table
from ctenhance.quality.figure import figure
from ctenhance.quality.likeness import doubts_of_pair
from ctenhance.quality.page import page

__all__ = ["compare", "doubts_of_pair", "figure", "page", "table"]
