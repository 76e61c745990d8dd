"""The drawings of the lessons."""
