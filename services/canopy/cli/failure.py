"""How a command ends that did not do its job. `main` shows the text and exits with the code; commands only raise."""

FAILED, USAGE, NOT_FOUND, NO_CONNECTION = 1, 2, 3, 4

EXIT_CODES = "Exit codes: 0 ok, 1 failed, 2 wrong usage, 3 not found, 4 no connection."


class Failure(Exception):
    """What went wrong, for people, with the exit code that says it to scripts."""

    def __init__(self, text: str, code: int = FAILED) -> None:
        super().__init__(text)
        self.code = code


class UsageFailure(Failure):
    """An argument or option is wrong: the text names it and what would be right."""

    def __init__(self, text: str) -> None:
        super().__init__(text, USAGE)
