"""What a trained model is worth: bits per byte, and whether its router is healthy."""
