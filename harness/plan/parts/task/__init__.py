"""What is known of each task before anything is generated; `harness/plan/parts/__init__.py` says how."""
