"""The outcomes of commands."""

from bridge.model.json_schema import Vocabulary


class Outcome(Vocabulary):
    """The `outcome` of a reply (docs/mqtt.md). Automations compare these words, so they do not change."""

    OK = "ok", "the terminal answered with status 0, or the bridge has carried out the command"
    REFUSED = "refused", "the terminal answered with another status"
    ACCEPTED = "accepted", "a person change is stored and will be delivered; a final reply follows"
    SUPERSEDED = "superseded", "a later change of the same person replaced it before it was delivered"
    OFFLINE = (
        "offline",
        "the terminal is not connected; an open or reboot was not carried out and will not be",
    )
    TIMEOUT = (
        "timeout",
        "no answer by the deadline; with `delivered` false it was not carried out and will not be",
    )
    LOST = (
        "lost",
        "connection lost before the answer; with `delivered` false it was not carried out and will not be",
    )
    EXPIRED = "expired", "the command reached the bridge too late to be carried out safely; it was not carried out"
    INVALID = "invalid", "the command was not understood or is not allowed; `errors` says what is wrong and where"
    UNAVAILABLE = (
        "unavailable",
        "the bridge cannot accept it now; a change sent with QoS 1 is accepted as soon as it can",
    )


OUTCOME_SCHEMA = Outcome.schema("The outcome of a command.")
