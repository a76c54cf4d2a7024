"""The one error that set-up and run report to the user."""


class Refused(Exception):
    """Something the user can put right.

    The message is one line: it names the thing, the value found and what was
    expected. Entry points print it after `error:` and exit with status 1.
    """
