"""What makes runs of a series: its points, the seconds they will take, the grid that fits, the prediction."""
