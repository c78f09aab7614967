"""The verbs as plain calls: check, plan, train, evaluate, report, and `tune`, which is all of them in a row."""
