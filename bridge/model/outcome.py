"""How a command can end."""

from bridge.model.json_schema import Vocabulary


class Outcome(Vocabulary):
    """The `outcome` of a reply (CONTRACT, section 4); a fixed vocabulary of automations."""

    OK = "ok", "the terminal said status 0, or the bridge has done it"
    REFUSED = "refused", "the terminal said another status"
    ACCEPTED = "accepted", "a person change is stored and will be delivered; not the last word on it"
    SUPERSEDED = "superseded", "a later change to the same person took its place before it was delivered"
    OFFLINE = "offline", "the terminal is not connected; an open or reboot was not carried out and will not be"
    TIMEOUT = "timeout", "no answer by the deadline; with `delivered` false it will not be carried out later"
    LOST = "lost", "the connection broke before the answer; with `delivered` false it will not be carried out later"
    EXPIRED = "expired", "it reached the bridge later than the deadline allows; not carried out"
    INVALID = "invalid", "it could not be understood or is not allowed; `errors` says what and where"
    UNAVAILABLE = "unavailable", "the bridge itself cannot take it now; a change sent with QoS 1 is taken once it can"


OUTCOME_SCHEMA = Outcome.schema("How a command ended.")
