"""What is measured of clips by networks and without: features, numbers a clip, and their sums."""
