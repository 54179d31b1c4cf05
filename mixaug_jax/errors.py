"""The one exception that means: the user can mend this."""


class UserError(Exception):
  """A mistake of the user, told in one sentence that names the mend.

  Commands print the sentence on stderr and exit with code 2. The sentence
  names the thing that is wrong (a key, a path, a flag) and what to do.
  """
