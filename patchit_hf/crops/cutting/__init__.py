"""From boxes to a data set of person crops: what is cut, from what, and where it is kept."""
