"""What a target may be beside the id of a token."""

IGNORED = -100  # there is none, so that it has no nats and no gradient
