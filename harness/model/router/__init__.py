"""The routers, one a file; `harness/model/routing.py` has what they share."""
