"""The statistics of reader studies, on plain arrays: agreement, paired gradings, preference, VGC, ROC, FROC.

Arrays are `[reader, case]` (or `[case, reader]` where the literature has it so), NaN where there is no
answer. Every function names its source, and the tests hold them against published examples.
"""
