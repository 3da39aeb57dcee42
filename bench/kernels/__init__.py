"""Times, counts and rooflines of the operators."""
