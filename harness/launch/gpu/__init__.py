"""What `make gpu` runs: stages as data (`all.yaml`, `first.yaml`), and the one way in which they are run (`stages.py`)."""
