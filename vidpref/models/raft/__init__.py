"""RAFT, which estimates optical flow."""
