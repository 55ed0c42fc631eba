"""What can be wrong with a file of persons as a whole."""


class PersonFileError(Exception):
    """A file of persons cannot be read or written.

    The message says what is wrong and what would be right, with the row where there is one; it neither names the file
    nor holds anything of a person.
    """
