"""The base class of the errors that a user of the pipeline can fix."""


class PipelineError(Exception):
    """Settings, data, a model or a server are not as the pipeline needs them; the message says what would be right.

    `console.run` prints it as one line, without a stack trace.
    """
