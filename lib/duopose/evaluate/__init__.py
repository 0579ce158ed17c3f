"""From detected people to the metrics of a benchmark."""
