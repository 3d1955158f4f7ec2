"""Pure functions of arrays, shared by the algorithms; each is tested alone."""
