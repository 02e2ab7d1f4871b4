"""What a fault of the simulated world looks like from inside the code that meets it."""


class Crash(BaseException):
    """The process ends here. No `Exception`, so that no handler of the code under test can outlive its own death."""
