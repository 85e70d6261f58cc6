"""What interfering with a run's routers cost, in words and as a page of panels."""
