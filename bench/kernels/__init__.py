"""Times, rooflines and compiled resources of the operators. No kernel lives here."""
