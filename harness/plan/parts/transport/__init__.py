"""What is known of each part without torch; `harness/plan/parts/__init__.py` says how."""
