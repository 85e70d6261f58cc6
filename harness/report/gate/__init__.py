"""The verdict of the regression gate, and the baseline it rests on."""
