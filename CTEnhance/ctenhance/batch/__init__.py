"""Many cases: what is done with one (`work`), by which verb (`verbs`), where (`cluster`), and what is
written down of all (`manifest`, `summary`). `ctenhance batch` finds the cases.
"""
