"""What is known of the ranks in name; the mathematics: `harness/model/transport/loopback.py`."""

ONE_PROCESS = True
