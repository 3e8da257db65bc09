"""`python -m ctenhance` is the `ctenhance` command; Slicer's own Python has no scripts folder on its path."""

from ctenhance.cli import main

if __name__ == "__main__":
    main()
