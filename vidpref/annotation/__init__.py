"""People compare clips, or grade them, on a page; what they say becomes preference records."""
