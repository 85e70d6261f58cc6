"""What was found inside a run (`harness/evaluate/inspect`), as text and as one page of figures."""
