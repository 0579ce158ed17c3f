"""From images to people, and from a data set to its score."""
