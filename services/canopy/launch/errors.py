"""What whoever starts units did wrong."""


class WrongUsage(Exception):
    """A name or a setting is wrong: the text names it and what would be right. Ends a process with exit code 2."""
