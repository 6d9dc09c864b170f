"""Turn boxes into a data set of crops: plan, cut, store, report."""
