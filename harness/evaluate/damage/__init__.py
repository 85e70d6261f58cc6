"""What it costs to interfere with a finished run's routers, and what might have foretold it."""
