"""The one exception for what a user can put right."""


class UserError(ValueError):
    """Something that was given breaks a rule; the message names the value received and the rule.

    The commands print the message alone and exit with status 1; any other exception is a defect of ours and
    keeps its traceback.
    """

    # What AutoGraph asks of an exception that it is to raise again: so it is still this one in a `tf.function`.
    __init__ = Exception.__init__
