"""What an answer rested on, and whether the picture of it may be believed."""
