"""The harness in a container. Standard library only and any python3 from 3.9 on: it runs where nothing is set up yet."""
