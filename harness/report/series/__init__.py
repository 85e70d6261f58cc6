"""A series: families of models from one size dial, and the laws of how they grow."""
