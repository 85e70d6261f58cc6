"""Faults that the gate must find, put in from outside: no production code knows of them, and no plan says they are there."""
