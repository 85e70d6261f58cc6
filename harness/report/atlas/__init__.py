"""A router's receipt in words and on one page, and what two of them share. Reads records alone."""
