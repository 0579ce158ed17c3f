"""Images for people to look at: poses, maps, training samples and curves."""
